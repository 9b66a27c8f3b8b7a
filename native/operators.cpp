// The operators `EncoderLayerInt8`, `EncoderLayerBfloat16` and `EncoderLayerFloat32` of the domain `stcompile`.
//
// Inputs: hidden float32 (batch, sequence, hidden); attention mask int64 (batch, sequence); then constants: of each of
// the linear layers [query | key | value], output, up, down its packed weights, bias and, in 8 bits, scales and
// smoothing; gain and bias of both layer normalizations; and where there is one, what is added to the scores, float32
// (batch or 1, heads, sequence, sequence). Output: float32 (batch, sequence, hidden).

#include <atomic>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>

#include "encoder_layer.h"
#include "ort_abi.h"

namespace stcompile {
namespace {

const ort::Api* api = nullptr;

void check(ort::Status* status) {
    if (status == nullptr) return;
    const std::string message = api->message(status);
    api->release(status);
    throw std::runtime_error(message);
}

std::vector<int64_t> shape_of(const ort::Value* value) {
    ort::ShapeInfo* found = nullptr;
    check(api->shape_info(value, &found));
    const auto release = [](ort::ShapeInfo* info) { api->release(info); };
    const std::unique_ptr<ort::ShapeInfo, decltype(release)> info(found, release);
    size_t rank = 0;
    check(api->rank(info.get(), &rank));
    std::vector<int64_t> dims(rank);
    check(api->dims(info.get(), dims.data(), rank));
    return dims;
}

template <typename T>
T* data_of(const ort::Value* value) {
    void* data = nullptr;
    check(api->data(const_cast<ort::Value*>(value), &data));
    return static_cast<T*>(data);
}

// Reads the constant inputs of a node one after the other.
class Constants {
  public:
    Constants(const ort::KernelInfo* info, size_t first) : info_(info), next_(first) {}

    template <typename T>
    const T* next(size_t elements) {
        const ort::Value* value = nullptr;
        int is_constant = 0;
        check(api->constant_input(info_, next_, &is_constant, &value));
        const std::string place = "input " + std::to_string(next_);
        if (is_constant == 0 || value == nullptr) throw std::runtime_error(place + " is not constant");
        size_t count = 1;
        for (const int64_t dim : shape_of(value)) count *= static_cast<size_t>(dim);
        if (count != elements) throw std::runtime_error(place + " is not of the size its layer needs");
        ++next_;
        return data_of<const T>(value);
    }

  private:
    const ort::KernelInfo* info_;
    size_t next_;
};

template <typename T>
T attribute(const ort::KernelInfo* info, const char* name) {
    T value = 0;
    check(api->attribute(info, name, &value));
    return value;
}

size_t checked(int64_t value, size_t multiple, const char* what) {
    if (value <= 0 || static_cast<size_t>(value) % multiple != 0) {
        throw std::runtime_error(std::string(what) + " is no multiple of " + std::to_string(multiple));
    }
    return static_cast<size_t>(value);
}

// The place of the optional last input.
constexpr size_t bias_after(size_t per_linear) { return 2 + 4 * per_linear + 4; }

struct Int8Reader {
    using Number = Int8;
    static constexpr const char* kName = "EncoderLayerInt8";
    static constexpr size_t kPerLinear = 4;
    static constexpr size_t kBias = bias_after(kPerLinear);
    static constexpr ort::ElementType kWeights = ort::kInt8;

    std::vector<std::vector<int32_t>> offsets;

    Linear read(Constants& constants, const ort::KernelInfo* info, size_t in, size_t out, const std::string& name) {
        Linear linear{in, out};
        const auto* weights = constants.next<int8_t>(in * out);
        linear.weights = weights;
        linear.bias = constants.next<float>(out);
        linear.scale = constants.next<float>(out);
        linear.smooth = constants.next<float>(in);
        const auto zero_point = attribute<int64_t>(info, (name + "_zero_point").c_str());
        if (zero_point < 0 || zero_point > kMiddle) throw std::runtime_error(name + "_zero_point is not from 0 to 128");
        linear.zero_point = static_cast<int>(zero_point);
        linear.smallest = attribute<float>(info, (name + "_smallest_scale").c_str());
        auto& offset = offsets.emplace_back(out, 0);
        for (size_t column = 0; column < out; ++column) {
            const int8_t* panel = weights + column / kPanel * kPanel * in + column % kPanel * Int8::kWord;
            int32_t sum = 0;
            for (size_t k = 0; k < in; k += Int8::kWord, panel += kPanel * Int8::kWord) {
                for (size_t byte = 0; byte < Int8::kWord; ++byte) sum += panel[byte];
            }
            offset[column] = -static_cast<int32_t>(zero_point) * sum;
        }
        linear.offset = offset.data();
        return linear;
    }
};

template <typename Float>
struct FloatReader {
    using Number = Float;
    static constexpr size_t kPerLinear = 2;
    static constexpr size_t kBias = bias_after(kPerLinear);

    Linear read(Constants& constants, const ort::KernelInfo*, size_t in, size_t out, const std::string&) {
        Linear linear{in, out};
        linear.weights = constants.next<typename Float::Element>(in * out);
        linear.bias = constants.next<float>(out);
        return linear;
    }
};

struct Bfloat16Reader : FloatReader<Bfloat16> {
    static constexpr const char* kName = "EncoderLayerBfloat16";
    static constexpr ort::ElementType kWeights = ort::kBfloat16;
};

struct Float32Reader : FloatReader<Float32> {
    static constexpr const char* kName = "EncoderLayerFloat32";
    static constexpr ort::ElementType kWeights = ort::kFloat;
};

template <typename Reader>
class Kernel {
  public:
    explicit Kernel(const ort::KernelInfo* info) {
        const size_t heads = checked(attribute<int64_t>(info, "heads"), 1, "the number of heads");
        const size_t hidden = checked(attribute<int64_t>(info, "hidden"), kPanel, "the hidden size");
        const size_t wide = checked(attribute<int64_t>(info, "intermediate"), kPanel, "the intermediate size");
        if (hidden % heads != 0) throw std::runtime_error("the hidden size is no multiple of the number of heads");
        checked(static_cast<int64_t>(hidden / heads), 32, "the size of a head");
        Constants constants(info, 2);
        weights_.heads = heads;
        weights_.qkv = reader_.read(constants, info, hidden, 3 * hidden, "qkv");
        weights_.out = reader_.read(constants, info, hidden, hidden, "output");
        weights_.up = reader_.read(constants, info, hidden, wide, "up");
        weights_.down = reader_.read(constants, info, wide, hidden, "down");
        weights_.gain_1 = constants.next<float>(hidden);
        weights_.bias_1 = constants.next<float>(hidden);
        weights_.gain_2 = constants.next<float>(hidden);
        weights_.bias_2 = constants.next<float>(hidden);
        weights_.epsilon_1 = attribute<float>(info, "epsilon_1");
        weights_.epsilon_2 = attribute<float>(info, "epsilon_2");
    }

    void compute(ort::KernelContext* context) const {
        const ort::Value *hidden = nullptr, *mask = nullptr;
        check(api->input(context, 0, &hidden));
        check(api->input(context, 1, &mask));
        const std::vector<int64_t> dims = shape_of(hidden), kept = shape_of(mask);
        if (dims.size() != 3 || kept.size() != 2 || kept[0] != dims[0] || kept[1] != dims[1] ||
            dims[2] != static_cast<int64_t>(weights_.hidden())) {
            throw std::runtime_error("hidden states and attention mask are not of one shape");
        }
        ort::Value* made = nullptr;
        check(api->output(context, 0, dims.data(), dims.size(), &made));
        const size_t texts = static_cast<size_t>(dims[0]), width = static_cast<size_t>(dims[1]);
        float* to = data_of<float>(made);
        ThreadMemory& memory = thread_memory();
        memory.tokens.read(data_of<const int64_t>(mask), texts, width);
        if (memory.tokens.count() < texts * width) {
            std::fill_n(to, texts * width * weights_.hidden(), 0.0f);
        }
        const ScoreBias bias = bias_of(context, dims[0], dims[1]);
        const Layer layer(weights_, data_of<const float>(hidden), memory.tokens, bias, memory, to);
        for_each<&Layer::project>(context, layer, layer.blocks());
        for_each<&Layer::attend_head>(context, layer, layer.attentions());
        for_each<&Layer::finish>(context, layer, layer.blocks());
        memory.qkv.let_go_above(kKeptBytes);
        memory.context.let_go_above(kKeptBytes);
    }

  private:
    ScoreBias bias_of(const ort::KernelContext* context, int64_t texts, int64_t sequence) const {
        size_t count = 0;
        check(api->input_count(context, &count));
        const ort::Value* bias = nullptr;
        if (count > Reader::kBias) check(api->input(context, Reader::kBias, &bias));
        if (bias == nullptr) return {nullptr, 1, weights_.heads, 0};
        const std::vector<int64_t> dims = shape_of(bias);
        const auto heads = static_cast<int64_t>(weights_.heads);
        const bool fits = dims.size() == 4 && (dims[0] == 1 || dims[0] == texts) && dims[1] == heads &&
                          dims[2] == sequence && dims[3] == sequence;
        if (!fits) {
            throw std::runtime_error("what is added to the scores is not (batch or 1, heads, sequence, sequence)");
        }
        const auto given = static_cast<size_t>(dims[0]), width = static_cast<size_t>(sequence);
        return {data_of<const float>(bias), given, weights_.heads, width};
    }

    using Layer = EncoderLayer<typename Reader::Number>;

    struct Shared {
        const Layer& layer;
        std::atomic<bool> failed{false};
    };

    template <void (Layer::*step)(size_t) const>
    static void for_each(ort::KernelContext* context, const Layer& layer, size_t count) {
        if (layer.blocks() == 1) {  // to wake other threads would take longer
            for (size_t i = 0; i < count; ++i) (layer.*step)(i);
            return;
        }
        if (count == 0) return;
        Shared shared{layer};
        const auto run = [](void* data, size_t index) {
            auto& job = *static_cast<Shared*>(data);
            try {
                (job.layer.*step)(index);
            } catch (...) {  // out of memory; an exception must not leave another thread
                job.failed = true;
            }
        };
        check(api->parallel_for(context, run, count, 0, &shared));
        if (shared.failed) throw std::bad_alloc();
    }

    Reader reader_;
    LayerWeights weights_;
};

template <typename Reader>
struct Operator : ort::CustomOp {
    static constexpr size_t kInputs = Reader::kBias + 1;

    Operator() : ort::CustomOp{} {
        version = ort::kApiVersion;
        name = [](const ort::CustomOp*) { return Reader::kName; };
        provider = [](const ort::CustomOp*) -> const char* { return nullptr; };
        input_count = [](const ort::CustomOp*) { return kInputs; };
        output_count = [](const ort::CustomOp*) { return size_t{1}; };
        output_type = [](const ort::CustomOp*, size_t) { return ort::kFloat; };
        input_type = [](const ort::CustomOp*, size_t index) {
            if (index == 1) return ort::kInt64;
            const size_t linear = index - 2;
            const bool is_weights =
                index >= 2 && linear < 4 * Reader::kPerLinear && linear % Reader::kPerLinear == 0;
            return is_weights ? Reader::kWeights : ort::kFloat;
        };
        input_characteristic = [](const ort::CustomOp*, size_t index) {
            return index == Reader::kBias ? ort::kOptional : ort::kRequired;
        };
        output_characteristic = [](const ort::CustomOp*, size_t) { return ort::kRequired; };
        input_memory = [](const ort::CustomOp*, size_t) { return 0; };
        create_checked = [](const ort::CustomOp*, const ort::Api* given, const ort::KernelInfo* info, void** out) {
            return guarded([&] { *out = new Kernel<Reader>(info); }, given);
        };
        compute_checked = [](void* kernel, ort::KernelContext* context) {
            return guarded([&] { static_cast<Kernel<Reader>*>(kernel)->compute(context); }, api);
        };
        destroy = [](void* kernel) { delete static_cast<Kernel<Reader>*>(kernel); };
        start_version = [](const ort::CustomOp*) { return 1; };
        end_version = [](const ort::CustomOp*) { return 1; };
    }

    template <typename Action>
    static ort::Status* guarded(Action action, const ort::Api* given) {
        try {
            action();
            return nullptr;
        } catch (const std::exception& error) {
            return given->error(error.what());
        }
    }
};

}  // namespace
}  // namespace stcompile

// What ONNX Runtime calls when it is told to register this library.
extern "C" __attribute__((visibility("default"))) ort::Status* RegisterCustomOps(
    ort::SessionOptions* options, const ort::ApiBase* base) {
    using namespace stcompile;
    // Made once, by whichever session is first; they live as long as the process, for sessions refer to them.
    static const Operator<Int8Reader> int8;
    static const Operator<Bfloat16Reader> bfloat16;
    static const Operator<Float32Reader> float32;
    static ort::Status* failure = nullptr;
    static ort::Domain* const domain = [&]() -> ort::Domain* {
        ort::Domain* made = nullptr;
        api = base->get(ort::kApiVersion);
        if (api == nullptr) {  // older than the functions that are needed; the first table has what makes an error
            failure = base->get(1)->error("the fused operators need ONNX Runtime 1.17 or later");
            return nullptr;
        }
        if ((failure = api->new_domain("stcompile", &made)) != nullptr) return nullptr;
        const ort::CustomOp* const operators[] = {&int8, &bfloat16, &float32};
        for (const ort::CustomOp* op : operators) {
            if ((failure = api->add_op(made, op)) != nullptr) return nullptr;
        }
        return made;
    }();
    return domain == nullptr ? failure : api->add_domain(options, domain);
}
