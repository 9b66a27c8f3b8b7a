// The operators `EncoderLayerInt8`, `EncoderLayerBfloat16` and `EncoderLayerFloat32` of the domain `stcompile`.
//
// Inputs: hidden float32 (batch, sequence, hidden); attention mask int64 (batch, sequence); then constants: of each of
// the linear layers [query | key | value], output, up, down its packed weights, bias and, in 8 bits, scales and
// smoothing; gain and bias of both layer normalizations; and where there is one, what is added to the scores, float32
// (batch or 1, heads, sequence, sequence). Output: float32 (batch, sequence, hidden). Where the node has an attribute
// `head_size`, a head has that many numbers, and queries, keys and values are heads * head_size wide; otherwise hidden.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <vector>

#include "dispatch.h"
#include "ort_abi.h"

namespace stcompile {

void* Scratch::of(Slot slot, size_t wanted) {
    if (wanted > bytes[slot]) {
        let_go(slot);
        const size_t rounded = (wanted + 63) / 64 * 64;
        data[slot] = ::operator new(rounded, std::align_val_t{64});
        bytes[slot] = rounded;
    }
    return data[slot];
}

void Scratch::let_go(Slot slot) {
    ::operator delete(data[slot], std::align_val_t{64});
    data[slot] = nullptr;
    bytes[slot] = 0;
}

namespace {

const ort::Api* api = nullptr;

struct ThreadMemory : Scratch {
    std::vector<size_t> place, start;
    std::vector<int32_t> position;

    ThreadMemory() : Scratch{} {}
    ThreadMemory(const ThreadMemory&) = delete;
    ThreadMemory& operator=(const ThreadMemory&) = delete;
    ~ThreadMemory() {
        for (int slot = 0; slot < kSlots; ++slot) let_go(static_cast<Slot>(slot));
    }

    void let_go_above(Slot slot, size_t most) {
        if (bytes[slot] > most) let_go(slot);
    }

    void read(const int64_t* mask, size_t texts, size_t width) {
        place.clear();
        position.clear();
        start.assign(1, 0);
        for (size_t text = 0; text < texts; ++text) {
            for (size_t i = text * width; i < (text + 1) * width; ++i) {
                if (mask[i] == 0) continue;
                place.push_back(i);
                position.push_back(static_cast<int32_t>(i - text * width));
            }
            start.push_back(place.size());
        }
    }
};

// What a thread keeps for the next layer of what follows the number of tokens. Only long texts need more, whose layers
// take seconds.
constexpr size_t kKeptBytes = 16 << 20;

// Rows behind the last one that kernels may read, and drop.
constexpr size_t kReadBehind = 16;

ThreadMemory& thread_memory() {
    static thread_local ThreadMemory memory;
    return memory;
}

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

// Columns of weights in the file, the last panel filled up.
size_t in_panels(size_t columns) { return (columns + kPanel - 1) / kPanel * kPanel; }

// 255 times so many levels fit in 16 bits.
constexpr int kLargestPair = 128;

// The place of the optional last input.
constexpr size_t bias_after(size_t per_linear) { return 2 + 4 * per_linear + 4; }

struct Int8Reader {
    static constexpr const char* kName = "EncoderLayerInt8";
    static constexpr Format kFormat = Format::kInt8;
    static constexpr size_t kPerLinear = 4;
    static constexpr size_t kBias = bias_after(kPerLinear);
    static constexpr ort::ElementType kWeights = ort::kInt8;
    static constexpr size_t kWord = 4;

    std::vector<std::vector<int32_t>> offsets;

    Linear read(Constants& constants, const ort::KernelInfo* info, size_t in, size_t out, const std::string& name) {
        Linear linear{in, out};
        const size_t columns = in_panels(out);
        const auto* weights = constants.next<int8_t>(in * columns);
        linear.weights = weights;
        linear.bias = constants.next<float>(out);
        linear.scale = constants.next<float>(out);
        linear.smooth = constants.next<float>(in);
        const auto zero_point = attribute<int64_t>(info, (name + "_zero_point").c_str());
        if (zero_point < 0 || zero_point > kMiddle) throw std::runtime_error(name + "_zero_point is not from 0 to 128");
        linear.zero_point = static_cast<int>(zero_point);
        linear.smallest = attribute<float>(info, (name + "_smallest_scale").c_str());
        auto& offset = offsets.emplace_back(columns, 0);
        int largest_pair = 0;
        for (size_t panel = 0; panel < columns; panel += kPanel) {
            for (size_t k = 0; k < in; k += kWord) {
                for (size_t column = 0; column < kPanel; ++column, weights += kWord) {
                    const int first = weights[0] + weights[1], second = weights[2] + weights[3];
                    offset[panel + column] -= (first + second) * (linear.zero_point - kTaken);
                    largest_pair = std::max({largest_pair, std::abs(first), std::abs(second)});
                }
            }
        }
        linear.offset = offset.data();
        linear.pair_safe = largest_pair <= kLargestPair;
        return linear;
    }
};

template <typename Stored>
struct FloatReader {
    static constexpr size_t kPerLinear = 2;
    static constexpr size_t kBias = bias_after(kPerLinear);

    Linear read(Constants& constants, const ort::KernelInfo*, size_t in, size_t out, const std::string&) {
        Linear linear{in, out};
        linear.weights = constants.next<Stored>(in * in_panels(out));
        linear.bias = constants.next<float>(out);
        return linear;
    }
};

struct Bfloat16Reader : FloatReader<uint16_t> {
    static constexpr const char* kName = "EncoderLayerBfloat16";
    static constexpr Format kFormat = Format::kBfloat16;
    static constexpr ort::ElementType kWeights = ort::kBfloat16;
};

struct Float32Reader : FloatReader<float> {
    static constexpr const char* kName = "EncoderLayerFloat32";
    static constexpr Format kFormat = Format::kFloat32;
    static constexpr ort::ElementType kWeights = ort::kFloat;
};

template <typename Reader>
class Kernel {
  public:
    explicit Kernel(const ort::KernelInfo* info) : steps_(steps_of(Reader::kFormat)) {
        const size_t heads = checked(attribute<int64_t>(info, "heads"), 1, "the number of heads");
        const size_t hidden = checked(attribute<int64_t>(info, "hidden"), kSizes, "the hidden size");
        const size_t wide = checked(attribute<int64_t>(info, "intermediate"), kSizes, "the intermediate size");
        int64_t head = 0;
        if (ort::Status* absent = api->attribute(info, "head_size", &head)) {
            api->release(absent);
            if (hidden % heads != 0) throw std::runtime_error("the hidden size is no multiple of the number of heads");
            head = static_cast<int64_t>(hidden / heads);
        }
        weights_.hidden = hidden;
        weights_.heads = heads;
        weights_.head = checked(head, kHeadSizes, "the size of a head");
        const size_t attended = heads * weights_.head;
        Constants constants(info, 2);
        weights_.qkv = reader_.read(constants, info, hidden, 3 * attended, "qkv");
        weights_.out = reader_.read(constants, info, attended, hidden, "output");
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
            dims[2] != static_cast<int64_t>(weights_.hidden)) {
            throw std::runtime_error("hidden states and attention mask are not of one shape");
        }
        ort::Value* made = nullptr;
        check(api->output(context, 0, dims.data(), dims.size(), &made));
        const size_t texts = static_cast<size_t>(dims[0]), width = static_cast<size_t>(dims[1]);
        float* to = data_of<float>(made);
        ThreadMemory& memory = thread_memory();
        memory.read(data_of<const int64_t>(mask), texts, width);
        const size_t tokens = memory.place.size(), attended = weights_.out.in;
        if (tokens < texts * width) std::fill_n(to, texts * width * weights_.hidden, 0.0f);
        Batch batch{};
        batch.weights = &weights_;
        batch.hidden = data_of<const float>(hidden);
        batch.place = memory.place.data();
        batch.start = memory.start.data();
        batch.position = memory.position.data();
        batch.tokens = tokens;
        batch.to = to;
        batch.sequence = width;
        read_bias(context, dims[0], dims[1], batch);
        batch.qkv = memory.of(kQkv, (tokens + kReadBehind) * 3 * attended * steps_.attended);
        batch.context = static_cast<float*>(memory.of(kContext, tokens * attended * sizeof(float)));
        const size_t blocks = (tokens + steps_.block - 1) / steps_.block;
        const bool alone = blocks == 1;  // to wake other threads would take longer
        for_each(context, steps_.project, batch, blocks, alone);
        for_each(context, steps_.attend, batch, texts * weights_.heads, alone);
        for_each(context, steps_.finish, batch, blocks, alone);
        memory.let_go_above(kQkv, kKeptBytes);
        memory.let_go_above(kContext, kKeptBytes);
    }

  private:
    void read_bias(const ort::KernelContext* context, int64_t texts, int64_t sequence, Batch& batch) const {
        size_t count = 0;
        check(api->input_count(context, &count));
        const ort::Value* bias = nullptr;
        if (count > Reader::kBias) check(api->input(context, Reader::kBias, &bias));
        if (bias == nullptr) return;
        const std::vector<int64_t> dims = shape_of(bias);
        const bool fits = dims.size() == 4 && (dims[0] == 1 || dims[0] == texts) &&
                          dims[1] == static_cast<int64_t>(weights_.heads) && dims[2] == sequence && dims[3] == sequence;
        if (!fits) {
            throw std::runtime_error("what is added to the scores is not (batch or 1, heads, sequence, sequence)");
        }
        batch.bias = data_of<const float>(bias);
        batch.biases = static_cast<size_t>(dims[0]);
    }

    using Step = void (*)(const Batch&, size_t, Scratch&);

    struct Shared {
        Step step;
        const Batch& batch;
        std::atomic<bool> failed{false};
    };

    static void for_each(ort::KernelContext* context, Step step, const Batch& batch, size_t count, bool alone) {
        if (alone) {
            for (size_t i = 0; i < count; ++i) step(batch, i, thread_memory());
            return;
        }
        if (batch.tokens == 0) return;
        Shared shared{step, batch};
        const auto run = [](void* data, size_t index) {
            auto& job = *static_cast<Shared*>(data);
            try {
                job.step(job.batch, index, thread_memory());
            } catch (...) {  // out of memory; an exception must not leave another thread
                job.failed = true;
            }
        };
        check(api->parallel_for(context, run, count, 0, &shared));
        if (shared.failed) throw std::bad_alloc();
    }

    const Steps& steps_;
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
    if (!choice().refusal.empty()) return base->get(1)->error(choice().refusal.c_str());
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
