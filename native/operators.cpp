// The operators `EncoderLayerInt8`, `EncoderLayerBfloat16` and `EncoderLayerFloat32` of the domain `stcompile`.
//
// Inputs: hidden float32 (batch, sequence, hidden); attention mask int64 (batch, sequence), 0 for padding, 1 for a token
// and 2 for one that is computed and that none attends to; then constants: of each of the linear layers [query | key |
// value], output, up, down its packed weights, bias and, in 8 bits, scales and smoothing; gain and shift of the first
// two normalizations. All others are optional, any of them: what is added to the scores, float32 (batch or 1, heads,
// sequence, sequence); cosines and sines of rotary positions, float32 (batch, sequence, at most half a head); and
// constants: gains of each query's and key's norm, (head); gain and shift of the third and fourth normalization. Output:
// float32 (batch, sequence, hidden).
//
// Attributes: heads, hidden, intermediate, epsilon_1, epsilon_2; optional ones, which say what a layer has that BERT's
// has not, are read in `parts_of`. Where there is a `head_size`, a head has that many numbers; otherwise heads are as
// wide as `hidden` together.

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <exception>
#include <limits>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
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

// What the mask is of a token that none attends to.
constexpr int64_t kUnseen = 2;

struct ThreadMemory : Scratch {
    std::vector<size_t> place, start;
    std::vector<int32_t> position;
    std::vector<uint8_t> unseen;
    bool hides = false;

    ThreadMemory() : Scratch{} {}
    ThreadMemory(const ThreadMemory&) = delete;
    ThreadMemory& operator=(const ThreadMemory&) = delete;
    ~ThreadMemory() { let_go_of_all(); }

    void let_go_above(size_t most) {
        if (bytes[kQkv] > most || bytes[kContext] > most) let_go_of_all();
    }

    void let_go_of_all() {
        for (int slot = 0; slot < kSlots; ++slot) let_go(static_cast<Slot>(slot));
    }

    void read(const int64_t* mask, size_t texts, size_t width) {
        place.clear();
        position.clear();
        unseen.clear();
        hides = false;
        start.assign(1, 0);
        for (size_t text = 0; text < texts; ++text) {
            for (size_t i = text * width; i < (text + 1) * width; ++i) {
                if (mask[i] == 0) continue;
                place.push_back(i);
                position.push_back(static_cast<int32_t>(i - text * width));
                unseen.push_back(mask[i] == kUnseen);
                hides = hides || mask[i] == kUnseen;
            }
            start.push_back(place.size());
        }
    }
};

// What a thread keeps for the next layer of what follows the number of tokens. Only long texts need more, whose layers
// take seconds.
constexpr size_t kKeptBytes = 16 << 20;

// Rows behind the last one that kernels may read, and drop.
constexpr size_t kReadBehind = 32;
constexpr size_t kLine = 64;  // bytes

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

// Whether a node has an input: its optional ones may be absent in between, and then have no name.
bool has_input(const ort::KernelInfo* info, size_t index) {
    size_t count = 0, size = 0;
    check(api->input_count(info, &count));
    if (index >= count) return false;
    check(api->input_name(info, index, nullptr, &size));
    return size > 1;
}

// Reads the constant inputs of a node one after the other.
class Constants {
  public:
    Constants(const ort::KernelInfo* info, size_t first) : info_(info), next_(first) {}

    // Null where the node has none.
    template <typename T>
    const T* optional(size_t elements) {
        if (has_input(info_, next_)) return next<T>(elements);
        ++next_;
        return nullptr;
    }

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

// What an attribute could not be read by says either that the node has none, or that it has another type.
void check_absent(const ort::KernelInfo* info, const char* name, ort::Status* said) {
    api->release(said);
    int64_t whole = 0;
    float fraction = 0;
    size_t size = 0;
    for (ort::Status* other : {api->attribute(info, name, &whole), api->attribute(info, name, &fraction),
                               api->attribute(info, name, nullptr, &size)}) {
        if (other == nullptr) throw std::runtime_error(std::string(name) + " is of another type");
        api->release(other);
    }
}

template <typename T>
T attribute(const ort::KernelInfo* info, const char* name, T otherwise) {
    T value = 0;
    ort::Status* absent = api->attribute(info, name, &value);
    if (absent == nullptr) return value;
    check_absent(info, name, absent);
    return otherwise;
}

// The place of an attribute's word among those that it may be: the first where the node has none.
template <typename Kind, size_t count>
Kind one_of(const ort::KernelInfo* info, const char* name, const char* const (&words)[count]) {
    size_t size = 0;
    if (ort::Status* absent = api->attribute(info, name, nullptr, &size)) {
        check_absent(info, name, absent);
        return Kind{};
    }
    std::string word(size, 0);
    check(api->attribute(info, name, word.data(), &size));
    word.resize(size - 1);
    std::string known;
    for (size_t i = 0; i < count; ++i) {
        if (word == words[i]) return static_cast<Kind>(i);
        known += (i == 0 ? "" : ", ") + std::string(words[i]);
    }
    throw std::runtime_error(std::string(name) + " is " + word + ", which is none of " + known);
}

// How far a token sees to one side.
int64_t limit(const ort::KernelInfo* info, const char* name) {
    const int64_t value = attribute<int64_t>(info, name, -1);
    if (value < -1) throw std::runtime_error(std::string(name) + " is below -1, which is no limit");
    return value == -1 ? kUnlimited : std::min(value, kUnlimited);
}

// Above every network, and so small that no product of two of them is beyond 64 bits.
constexpr int64_t kMost = 1 << 24;

size_t checked(int64_t value, size_t multiple, const char* what) {
    if (value > kMost) throw std::runtime_error(std::string(what) + " is above " + std::to_string(kMost));
    if (value <= 0 || static_cast<size_t>(value) % multiple != 0) {
        throw std::runtime_error(std::string(what) + " is no multiple of " + std::to_string(multiple));
    }
    return static_cast<size_t>(value);
}

size_t rounded_up(size_t x, size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// Columns of weights in the file, the last panel filled up.
size_t in_panels(size_t columns) { return rounded_up(columns, kPanel); }

// 255 times so many levels fit in 16 bits.
constexpr int kLargestPair = 128;

// The place of the first optional input, and the others' behind it.
constexpr size_t bias_after(size_t per_linear) { return 2 + 4 * per_linear + 4; }
constexpr size_t kCosines = 1, kSines = 2, kGains = 3, kOptionals = 9;

struct Int8Reader {
    static constexpr const char* kName = "EncoderLayerInt8";
    static constexpr Format kFormat = Format::kInt8;
    static constexpr size_t kPerLinear = 4;
    static constexpr size_t kBias = bias_after(kPerLinear);
    static constexpr ort::ElementType kWeights = ort::kInt8;
    static constexpr size_t kWord = 4, kBytes = 1;

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
    static constexpr size_t kBytes = sizeof(Stored);
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

// What a node says of its layer but for sizes and weights.
LayerWeights parts_of(const ort::KernelInfo* info) {
    LayerWeights parts;
    parts.norms = one_of<Norms>(info, "norms", {"after", "before", "around"});
    parts.normalization = one_of<Normalization>(info, "normalization", {"layer", "rms"});
    parts.activation = one_of<Activation>(info, "activation", {"gelu", "gelu_tanh", "silu", "relu"});
    parts.first_norm = attribute<int64_t>(info, "first_norm", 1) != 0;
    parts.gated = attribute<int64_t>(info, "gated", 0) != 0;
    parts.before = limit(info, "before");
    parts.after = limit(info, "after");
    parts.soft_cap = attribute<float>(info, "soft_cap", 0.0f);
    if (!(parts.soft_cap >= 0) || parts.soft_cap > std::numeric_limits<float>::max()) {
        throw std::runtime_error("soft_cap is neither a positive number nor 0, which is none");
    }
    if (!parts.first_norm && parts.norms == Norms::kAfter) {
        throw std::runtime_error("first_norm is 0, but norms stand after");
    }
    return parts;
}

template <typename Reader>
class Kernel {
  public:
    explicit Kernel(const ort::KernelInfo* info) : steps_(steps_of(Reader::kFormat)), weights_(parts_of(info)) {
        const size_t heads = checked(attribute<int64_t>(info, "heads"), 1, "the number of heads");
        const size_t hidden = checked(attribute<int64_t>(info, "hidden"), kSizes, "the hidden size");
        const size_t wide = checked(attribute<int64_t>(info, "intermediate"), kSizes, "the intermediate size");
        const size_t key_heads = checked(
            attribute<int64_t>(info, "kv_heads", static_cast<int64_t>(heads)), 1, "the number of key and value heads");
        if (heads % key_heads != 0) {
            throw std::runtime_error("the number of heads is no multiple of the number of key and value heads");
        }
        int64_t head = attribute<int64_t>(info, "head_size", -1);
        if (head == -1) {
            if (hidden % heads != 0) throw std::runtime_error("the hidden size is no multiple of the number of heads");
            head = static_cast<int64_t>(hidden / heads);
        }
        weights_.hidden = hidden;
        weights_.heads = heads;
        weights_.key_heads = key_heads;
        weights_.head = checked(head, kHeadSizes, "the size of a head");
        const size_t attended = heads * weights_.head;
        Constants constants(info, 2);
        weights_.qkv = reader_.read(constants, info, hidden, attended + 2 * key_heads * weights_.head, "qkv");
        weights_.out = reader_.read(constants, info, attended, hidden, "output");
        weights_.up = reader_.read(constants, info, hidden, weights_.gated ? 2 * wide : wide, "up");
        weights_.down = reader_.read(constants, info, wide, hidden, "down");
        for (int i = 0; i < 2; ++i) {
            weights_.norm[i].gain = constants.next<float>(hidden);
            weights_.norm[i].shift = constants.next<float>(hidden);
        }
        weights_.norm[0].epsilon = attribute<float>(info, "epsilon_1");
        weights_.norm[1].epsilon = attribute<float>(info, "epsilon_2");
        for (const Linear* linear : {&weights_.qkv, &weights_.out, &weights_.up, &weights_.down}) {
            weights_bytes_ += linear->in * in_panels(linear->out) * Reader::kBytes;
        }
        read_optional(info);
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
        const size_t tokens = memory.place.size();
        if (tokens < texts * width) std::fill_n(to, texts * width * weights_.hidden, 0.0f);
        Batch batch{};
        batch.weights = &weights_;
        batch.hidden = data_of<const float>(hidden);
        batch.place = memory.place.data();
        batch.start = memory.start.data();
        batch.position = memory.position.data();
        batch.unseen = memory.hides ? memory.unseen.data() : nullptr;
        batch.tokens = tokens;
        batch.to = to;
        batch.sequence = width;
        read_bias(context, dims[0], dims[1], batch);
        read_rotary(context, dims[0], dims[1], batch);
        batch.qkv_stride = weights_.qkv.out + kLine / steps_.attended;
        batch.context_stride = weights_.out.in + kLine / sizeof(float);
        batch.qkv = memory.of(kQkv, (tokens + kReadBehind) * batch.qkv_stride * steps_.attended);
        batch.context = static_cast<float*>(memory.of(kContext, tokens * batch.context_stride * sizeof(float)));
        batch.block = block_of(tokens);
        const size_t blocks = (tokens + batch.block - 1) / batch.block;
        const bool by_columns = blocks == 1 && weights_bytes_ > kCached;
        const bool alone = blocks == 1 && !by_columns;  // to wake other threads would take longer
        share_attention(memory, texts, alone, batch);
        batch.shared = &memory;
        if (by_columns) {
            for_each_stage(context, steps_.projecting, batch);
        } else {
            for_each(context, steps_.project, batch, blocks, alone);
        }
        for_each(context, steps_.attend, batch, texts * weights_.key_heads * batch.shares, alone);
        if (by_columns) {
            for_each_stage(context, steps_.finishing, batch);
        } else {
            for_each(context, steps_.finish, batch, blocks, alone);
        }
        memory.let_go_above(kKeptBytes);
    }

  private:
    static constexpr size_t kCached = 2 << 20;  // bytes of weights that stay in a core's cache

    // Tokens that are taken at once. Weights that do not stay in a core's cache are read from the last one for every
    // block: as few blocks as may be then, and as many for every core. Where one is enough, threads share its columns.
    size_t block_of(size_t tokens) const {
        static const size_t cores = std::max(1u, std::thread::hardware_concurrency());
        const Block& block = steps_.block;
        if (weights_bytes_ <= kCached) return block.least;
        if (tokens <= block.most) return rounded_up(std::max(tokens, block.least), block.multiple);
        const size_t blocks = rounded_up((tokens + block.most - 1) / block.most, cores);
        return std::max(block.least, rounded_up((tokens + blocks - 1) / blocks, block.multiple));
    }

    template <size_t count>
    void for_each_stage(ort::KernelContext* context, const Stage (&stages)[count], const Batch& batch) const {
        constexpr size_t kEnough = 1 << 15;  // numbers that are worth other threads
        steps_.reserve(batch);
        for (const Stage& stage : stages) {
            const Linear& layer = weights_.*stage.layer;
            if (stage.by_rows) {
                const bool alone = batch.tokens * std::max(layer.in, weights_.hidden) < kEnough;
                for_each(context, stage.run, batch, batch.tokens, alone);
            } else {
                for_each(context, stage.run, batch, in_panels(layer.out) / kPanel, false);
            }
        }
    }

    void read_optional(const ort::KernelInfo* info) {
        rotates_ = has_input(info, Reader::kBias + kCosines);
        if (rotates_ != has_input(info, Reader::kBias + kSines)) {
            throw std::runtime_error("there is one of rotary_cos and rotary_sin without the other");
        }
        Constants constants(info, Reader::kBias + kGains);
        weights_.query_gain = constants.optional<float>(weights_.head);
        weights_.key_gain = constants.optional<float>(weights_.head);
        if ((weights_.query_gain == nullptr) != (weights_.key_gain == nullptr)) {
            throw std::runtime_error("there is one of query_gain and key_gain without the other");
        }
        if (weights_.query_gain != nullptr) weights_.head_epsilon = attribute<float>(info, "head_epsilon");
        const bool around = weights_.norms == Norms::kAround;
        for (int i = 2; i < 4; ++i) {
            Norm& norm = weights_.norm[i];
            norm.gain = constants.optional<float>(weights_.hidden);
            norm.shift = constants.optional<float>(weights_.hidden);
            const std::string number = std::to_string(i + 1);
            if (around != (norm.gain != nullptr) || around != (norm.shift != nullptr)) {
                throw std::runtime_error(
                    "gain_" + number + " and shift_" + number + " belong to norms around, and only to them");
            }
            if (around) norm.epsilon = attribute<float>(info, ("epsilon_" + number).c_str());
        }
    }

    // An optional input of a call; null where there is none.
    static const ort::Value* input(const ort::KernelContext* context, size_t index) {
        size_t count = 0;
        check(api->input_count(context, &count));
        const ort::Value* value = nullptr;
        if (count > index) check(api->input(context, index, &value));
        return value;
    }

    void read_bias(const ort::KernelContext* context, int64_t texts, int64_t sequence, Batch& batch) const {
        const ort::Value* bias = input(context, Reader::kBias);
        if (bias == nullptr) return;
        const std::vector<int64_t> dims = shape_of(bias);
        const bool fits = dims.size() == 4 && (dims[0] == 1 || dims[0] == texts) &&
                          (dims[1] == 1 || dims[1] == static_cast<int64_t>(weights_.heads)) && dims[2] == sequence &&
                          dims[3] == sequence;
        if (!fits) {
            throw std::runtime_error("what is added to the scores is not (batch or 1, heads or 1, sequence, sequence)");
        }
        batch.bias = data_of<const float>(bias);
        batch.biases = static_cast<size_t>(dims[0]);
        batch.bias_heads = static_cast<size_t>(dims[1]);
    }

    void read_rotary(const ort::KernelContext* context, int64_t texts, int64_t sequence, Batch& batch) const {
        if (!rotates_) return;
        const ort::Value* cosines = input(context, Reader::kBias + kCosines);
        const ort::Value* sines = input(context, Reader::kBias + kSines);
        const std::vector<int64_t> dims = shape_of(cosines);
        const bool fits = dims.size() == 3 && dims[0] == texts && dims[1] == sequence && dims[2] > 0 &&
                          2 * dims[2] <= static_cast<int64_t>(weights_.head);
        if (!fits || shape_of(sines) != dims) {
            throw std::runtime_error(
                "rotary_cos and rotary_sin are not both (batch, sequence, numbers), of at most half the size of a head");
        }
        batch.cosines = data_of<const float>(cosines);
        batch.sines = data_of<const float>(sines);
        batch.rotary = static_cast<size_t>(dims[2]);
    }

    // What attention's work falls into: each share packs the keys that its queries see. Where they see a window, so many
    // queries that their keys stay in the cache; and fewer where key heads alone would leave threads without any.
    void share_attention(const ThreadMemory& memory, size_t texts, bool alone, Batch& batch) const {
        constexpr size_t kInWindow = 3 * kShare, kLeast = kShare, kEnough = 8;
        size_t longest = 1;
        for (size_t text = 0; text < texts; ++text) {
            longest = std::max(longest, memory.start[text + 1] - memory.start[text]);
        }
        size_t queries = longest;
        if (weights_.before != kUnlimited && weights_.after != kUnlimited) {
            queries = std::min(queries, std::max(kInWindow, static_cast<size_t>(weights_.before + weights_.after)));
        }
        const size_t heads = texts * weights_.key_heads;
        if (!alone && heads < kEnough) queries = std::min(queries, std::max(kLeast, longest * heads / kEnough));
        batch.queries = rounded_up(queries, kShare);
        batch.shares = (longest + batch.queries - 1) / batch.queries;
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
    size_t weights_bytes_ = 0;
    bool rotates_ = false;
};

template <typename Reader>
struct Operator : ort::CustomOp {
    static constexpr size_t kInputs = Reader::kBias + kOptionals;

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
            return index >= Reader::kBias ? ort::kOptional : ort::kRequired;
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
    // Its text: whoever is given an error lets go of it.
    static std::string failure;
    static ort::Domain* const domain = [&]() -> ort::Domain* {
        ort::Domain* made = nullptr;
        api = base->get(ort::kApiVersion);
        if (api == nullptr) {  // older than the functions that are needed; the first table has what makes an error
            failure = "the fused operators need ONNX Runtime 1.17 or later";
            return nullptr;
        }
        try {
            check(api->new_domain("stcompile", &made));
            for (const ort::CustomOp* op : std::initializer_list<const ort::CustomOp*>{&int8, &bfloat16, &float32}) {
                check(api->add_op(made, op));
            }
        } catch (const std::exception& error) {
            failure = error.what();
            return nullptr;
        }
        return made;
    }();
    return domain == nullptr ? base->get(1)->error(failure.c_str()) : api->add_domain(options, domain);
}
