// One layer of a BERT-like encoder (Devlin et al., 2018), post-norm, in three steps over blocks of tokens:
//
//   1. [q | k | v] = h Wqkv + b
//   2. c = softmax(q k^T) v, text by text and head by head
//   3. a = LN(h + c Wo + b);  h' = LN(a + gelu(a W1 + b) W2 + b)
//
// Tokens are those that the attention mask keeps; padding is neither multiplied nor attended to, and stays zero. Every
// token's sums run in one order whatever stands beside it, so a text's rows are the same in every batch, bit by bit.

#pragma once

#include "attention.h"

namespace stcompile::STCOMPILE_GENERATION {

// How a format multiplies a block of rows. A generation that has another way says so for its format.
template <typename Number>
struct Product {
    static constexpr size_t kRows = kBlock<Number>;
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
    static void run(const Head<Number>& head, const Bias& bias, Scratch& memory) { attend(head, bias, memory); }
};

template <typename Number>
class EncoderLayer {
  public:
    static void project(const Batch& batch, size_t block, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const size_t first = block * kRows, rows = smaller(kRows, batch.tokens - first), stride = stride_of(w.qkv.in);
        auto* x = memory_of<Element>(memory, kLevels, kRows * stride);
        float scales[kRows];
        Rows<Attended, kRows> output;
        for (size_t r = 0; r < rows; ++r) {
            scales[r] = take<Number>(batch.hidden + batch.place[first + r] * w.hidden, w.qkv, x + r * stride);
            output.to[r] = static_cast<Attended*>(batch.qkv) + (first + r) * w.qkv.out;
            output.onto[r] = nullptr;
        }
        Product<Number>::run(x, scales, rows, w.qkv, output, memory);
    }

    static void attend(const Batch& batch, size_t text_and_head, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const size_t text = text_and_head / w.heads, index = text_and_head % w.heads, all = w.heads * w.head;
        const size_t first = batch.start[text], tokens = batch.start[text + 1] - first, matrix = batch.sequence;
        if (tokens == 0) return;
        const auto* query = static_cast<const Attended*>(batch.qkv) + first * 3 * all + index * w.head;
        float* to = batch.context + first * all + index * w.head;
        const Head<Attending> head{query, query + all, query + 2 * all, 3 * all, tokens, w.head, to, all};
        const float* bias = batch.bias;
        if (bias != nullptr) bias += ((batch.biases > 1 ? text * w.heads : 0) + index) * matrix * matrix;
        Attention<Attending>::run(head, {bias, matrix, batch.position + first}, memory);
    }

    static void finish(const Batch& batch, size_t block, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const size_t first = block * kRows, rows = smaller(kRows, batch.tokens - first);
        const size_t width = w.hidden, wide = w.up.out;
        const size_t stride[] = {stride_of(w.out.in), stride_of(width), stride_of(wide)};
        const size_t widest = stride[0] < stride[1] ? stride[1] : stride[0];
        auto* x = memory_of<Element>(memory, kLevels, kRows * (widest < stride[2] ? stride[2] : widest));
        float* middle = memory_of<float>(memory, kMiddleRows, kRows * width);
        float* grown = memory_of<float>(memory, kWide, kRows * wide);
        float scales[kRows];
        Rows<float, kRows> output;

        for (size_t r = 0; r < rows; ++r) {
            scales[r] = take<Number>(batch.context + (first + r) * w.out.in, w.out, x + r * stride[0]);
            output.to[r] = middle + r * width;
            output.onto[r] = batch.hidden + batch.place[first + r] * width;
        }
        Product<Number>::run(x, scales, rows, w.out, output, memory);
        for (size_t r = 0; r < rows; ++r) {
            layer_norm(middle + r * width, width, w.gain_1, w.bias_1, w.epsilon_1);
            scales[r] = take<Number>(middle + r * width, w.up, x + r * stride[1]);
            output.to[r] = grown + r * wide;
            output.onto[r] = nullptr;
        }
        Product<Number>::run(x, scales, rows, w.up, output, memory);
        for (size_t r = 0; r < rows; ++r) {
            scales[r] = take_gelu<Number>(grown + r * wide, w.down, x + r * stride[2]);
            output.to[r] = batch.to + batch.place[first + r] * width;
            output.onto[r] = middle + r * width;
        }
        Product<Number>::run(x, scales, rows, w.down, output, memory);
        for (size_t r = 0; r < rows; ++r) layer_norm(output.to[r], width, w.gain_2, w.bias_2, w.epsilon_2);
    }

    static constexpr Steps kSteps{
        Product<Number>::kRows, sizeof(typename Number::InAttention::Element), project, attend, finish};

  private:
    using Element = typename Number::Element;
    using Attending = typename Number::InAttention;
    using Attended = typename Attending::Element;
    static constexpr size_t kRows = Product<Number>::kRows;

    static size_t stride_of(size_t in) { return Product<Number>::stride(in); }
};

// For tests, which hold generations side by side.
inline float levels_of(const float* row, const Linear& layer, uint8_t* to) {
    const float scale = take<Int8<Single<false>>>(row, layer, to);
    for (size_t i = 0; i < layer.in; ++i) to[i] = static_cast<uint8_t>(to[i] + kTaken);
    return scale;
}

}  // namespace stcompile::STCOMPILE_GENERATION
