// One layer of an encoder, in three steps over blocks of tokens:
//
//   1. [q | k | v] = h Wqkv + b, and q and k turned by their positions
//   2. c = softmax(q k^T) v, text by text and head by head
//   3. a = h + c Wo + b;  y = a + f(a W1 + b) W2 + b
//
// BERT (Devlin et al., 2018) normalizes both sums of 3; other layers normalize what goes into 1 and W1, or that and what
// comes out of Wo and W2, by their mean and variance or by their mean square alone (`Norms` and what stands beside it).
//
// Tokens are those that the attention mask keeps; padding is neither multiplied nor attended to, and stays zero. Every
// token's sums run in one order whatever stands beside it, so a text's rows are the same in every batch, bit by bit.

#pragma once

#include "attention.h"
#include "heads.h"

namespace stcompile::STCOMPILE_GENERATION {

// How a format multiplies a block of rows. A generation that has another way says so for its format.
template <typename Number>
struct Product {
    static constexpr Block kRows = kBlock<Number>;
    static size_t stride(size_t in) { return in; }

    template <typename Output>
    static void run(
        const typename Number::Element* x, const float* scales, size_t rows, const Linear& layer, const Output& output,
        Scratch&) {
        multiply<Number>(x, layer.in, scales, rows, layer, output);
    }
};

// How a format attends, likewise.
template <typename Number>
struct Attention {
    static void run(const Heads<Number>& heads, const Text& text, Scratch& memory) { attend(heads, text, memory); }
};

template <typename Number>
class EncoderLayer {
  public:
    static void project(const Batch& batch, size_t block, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const size_t first = block * batch.block, rows = smaller(batch.block, batch.tokens - first);
        const size_t stride = stride_of(w.qkv.in);
        auto* x = memory_of<Element>(memory, kLevels, batch.block * stride);
        float* normal = memory_of<float>(memory, kRow, w.hidden);
        const bool normed = w.norms != Norms::kAfter && w.first_norm;
        float scales[kRows.most];
        for (size_t r = 0; r < rows; ++r) {
            const float* row = batch.hidden + batch.place[first + r] * w.hidden;
            scales[r] = normed ? take_normal(row, w, w.norm[0], normal, w.qkv, x + r * stride)
                               : take<Number>(row, w.qkv, x + r * stride);
        }
        if (w.query_gain != nullptr || batch.cosines != nullptr) return turned(batch, first, rows, x, scales, memory);
        Rows<Attended, kRows.most> output;
        for (size_t r = 0; r < rows; ++r) {
            output.to[r] = static_cast<Attended*>(batch.qkv) + (first + r) * batch.qkv_stride;
            output.onto[r] = nullptr;
        }
        Product<Number>::run(x, scales, rows, w.qkv, output, memory);
    }

    static void attend(const Batch& batch, size_t share, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const size_t part = share % batch.shares, pair = share / batch.shares;
        const size_t text = pair / w.key_heads, index = pair % w.key_heads, group = w.heads / w.key_heads;
        const size_t first = batch.start[text], tokens = batch.start[text + 1] - first;
        const size_t from = part * batch.queries, to = smaller(from + batch.queries, tokens);
        if (from >= to) return;
        const auto* rows = static_cast<const Attended*>(batch.qkv) + first * batch.qkv_stride;
        const auto* key = rows + (w.heads + index) * w.head;
        float* context = batch.context + first * batch.context_stride + index * group * w.head;
        const Heads<Attending> heads{
            rows + index * group * w.head, key, key + w.key_heads * w.head, batch.qkv_stride, w.head, group,
            context, batch.context_stride, from, to};
        const size_t matrix = batch.sequence * batch.sequence;
        const float* bias = batch.bias;
        if (bias != nullptr) bias += ((batch.biases > 1 ? text * w.heads : 0) + index * group) * matrix;
        const Text seen{batch.position + first, tokens, w.before, w.after, bias, batch.sequence};
        Attention<Attending>::run(heads, seen, memory);
    }

    static void finish(const Batch& batch, size_t block, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const size_t first = block * batch.block, rows = smaller(batch.block, batch.tokens - first);
        const size_t width = w.hidden, wide = w.up.out;
        const size_t stride[] = {stride_of(w.out.in), stride_of(width), stride_of(w.down.in)};
        const size_t widest = stride[0] < stride[1] ? stride[1] : stride[0];
        auto* x = memory_of<Element>(memory, kLevels, batch.block * (widest < stride[2] ? stride[2] : widest));
        float* middle = memory_of<float>(memory, kMiddleRows, batch.block * width);
        float* grown = memory_of<float>(memory, kWide, batch.block * wide);
        float* normal = memory_of<float>(memory, kRow, width);
        const bool around = w.norms == Norms::kAround;
        float scales[kRows.most];
        Rows<float, kRows.most> output;
        const auto row_of = [&](size_t r) { return batch.place[first + r] * width; };

        for (size_t r = 0; r < rows; ++r) {
            scales[r] = take<Number>(batch.context + (first + r) * batch.context_stride, w.out, x + r * stride[0]);
            output.to[r] = middle + r * width;
            output.onto[r] = around ? nullptr : batch.hidden + row_of(r);
        }
        Product<Number>::run(x, scales, rows, w.out, output, memory);
        for (size_t r = 0; r < rows; ++r) {
            float* row = middle + r * width;
            if (around) add_normal(batch.hidden + row_of(r), w, w.norm[2], row);
            if (w.norms == Norms::kAfter) {
                normalize(w, w.norm[0], row);
                scales[r] = take<Number>(row, w.up, x + r * stride[1]);
            } else {
                scales[r] = take_normal(row, w, w.norm[1], normal, w.up, x + r * stride[1]);
            }
            output.to[r] = grown + r * wide;
            output.onto[r] = nullptr;
        }
        Product<Number>::run(x, scales, rows, w.up, output, memory);
        for (size_t r = 0; r < rows; ++r) {
            scales[r] = take_activated<Number>(grown + r * wide, w.activation, w.gated, w.down, x + r * stride[2]);
            output.to[r] = batch.to + row_of(r);
            output.onto[r] = around ? nullptr : middle + r * width;
        }
        Product<Number>::run(x, scales, rows, w.down, output, memory);
        for (size_t r = 0; r < rows; ++r) {
            if (around) add_normal(middle + r * width, w, w.norm[3], output.to[r]);
            if (w.norms == Norms::kAfter) normalize(w, w.norm[1], output.to[r]);
        }
    }

    static constexpr Steps kSteps{
        Product<Number>::kRows, sizeof(typename Number::InAttention::Element), project, attend, finish};

  private:
    using Element = typename Number::Element;
    using Attending = typename Number::InAttention;
    using Attended = typename Attending::Element;
    static constexpr Block kRows = Product<Number>::kRows;

    static size_t stride_of(size_t in) { return Product<Number>::stride(in); }

    // A row's norm as the input of a layer; `normal` has room for it.
    static float take_normal(
        const float* row, const LayerWeights& w, const Norm& norm, float* normal, const Linear& layer, Element* to) {
        const Normal made(row, w.hidden, norm, w.normalization);
        return take_made<Number>(normal, layer, to, [&](size_t i, auto lanes) { return made.at(i, lanes); });
    }

    // A row's norm in its place, and the same on top of another row.
    static void normalize(const LayerWeights& w, const Norm& norm, float* row) {
        const Normal made(row, w.hidden, norm, w.normalization);
        each_vector(w.hidden, [&](size_t i, auto lanes) { store(row + i, made.at(i, lanes), lanes); });
    }
    static void add_normal(const float* onto, const LayerWeights& w, const Norm& norm, float* row) {
        const Normal made(row, w.hidden, norm, w.normalization);
        each_vector(w.hidden, [&](size_t i, auto lanes) {
            store(row + i, made.at(i, lanes) + load(onto + i, lanes), lanes);
        });
    }

    // Queries, keys and values of a block, queries and keys prepared in float32 before they are rounded.
    static void turned(
        const Batch& batch, size_t first, size_t rows, Element* x, const float* scales, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const size_t heads = w.heads + w.key_heads, columns = heads * w.head;
        float* turning = memory_of<float>(memory, kTurned, batch.block * columns);
        QueriesKeysValues<Attended, kRows.most> output;
        output.columns = columns;
        for (size_t r = 0; r < rows; ++r) {
            output.queries_keys[r] = turning + r * columns;
            output.all[r] = static_cast<Attended*>(batch.qkv) + (first + r) * batch.qkv_stride;
        }
        Product<Number>::run(x, scales, rows, w.qkv, output, memory);
        for (size_t r = 0; r < rows; ++r) {
            Turn turn{nullptr, nullptr, 0};
            const size_t angles = batch.place[first + r] * batch.rotary;
            if (batch.cosines != nullptr) turn = {batch.cosines + angles, batch.sines + angles, batch.rotary};
            for (size_t head = 0; head < heads; ++head) {
                const float* gain = head < w.heads ? w.query_gain : w.key_gain;
                const size_t at = head * w.head;
                prepare_head(output.queries_keys[r] + at, w.head, gain, w.head_epsilon, turn, output.all[r] + at);
            }
        }
    }
};

// For tests, which hold generations side by side.
inline float levels_of(const float* row, const Linear& layer, uint8_t* to) {
    const float scale = take<Int8<Single<false>>>(row, layer, to);
    for (size_t i = 0; i < layer.in; ++i) to[i] = static_cast<uint8_t>(to[i] + kTaken);
    return scale;
}

}  // namespace stcompile::STCOMPILE_GENERATION
