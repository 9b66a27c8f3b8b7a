// One layer of an encoder, in three steps over blocks of tokens:
//
//   1. [q | k | v] = h Wqkv + b, and q and k turned by their positions
//   2. c = softmax(q k^T) v, text by text and head by head
//   3. a = h + c Wo + b;  y = a + f(a W1 + b) W2 + b
//
// BERT (Devlin et al., 2018) normalizes both sums of 3; other layers normalize what goes into 1 and W1, or that and
// what comes out of Wo and W2, by their mean and variance or by their mean square alone (`Norms` and what follows it).
//
// Tokens are those that the attention mask keeps; padding is neither multiplied nor attended to, and stays zero. Every
// token's sums run in one order whatever stands beside it, so a text's rows are the same in every batch, bit by bit.

#pragma once

#include "attention.h"
#include "tokens.h"

namespace stcompile::STCOMPILE_GENERATION {

// How a format attends. A generation that has another way says so for its format.
template <typename Number>
struct Attention {
    static void run(const Heads<Number>& heads, const Text& text, Scratch& memory) { attend(heads, text, memory); }
};

template <typename Number>
class EncoderLayer {
    using Attending = typename Number::InAttention;
    using Attended = typename Attending::Element;

    using Way = Tokens<Number>;

    // A row or a panel of the only block, whose memory several threads share.
    template <void (Way::*stage)(size_t, Scratch&) const>
    static void row(const Batch& batch, size_t index, Scratch& own) {
        (Way(batch, 0, *batch.shared).*stage)(index, own);
    }
    template <void (Way::*stage)(size_t, size_t, Scratch&) const>
    static void panel(const Batch& batch, size_t index, Scratch& own) {
        (Way(batch, 0, *batch.shared).*stage)(index * kPanel, kPanel, own);
    }
    static void reserve(const Batch& batch) { Way(batch, 0, *batch.shared); }

  public:
    static void project(const Batch& batch, size_t block, Scratch& memory) {
        const Way tokens(batch, block, memory);
        for (size_t r = 0; r < tokens.rows; ++r) tokens.read_hidden(r, memory);
        tokens.make_qkv(0, batch.weights->qkv.out, memory);
        for (size_t r = 0; r < tokens.rows; ++r) tokens.turn(r, memory);
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
            context, batch.context_stride, from, to, w.soft_cap * kLog2E};
        const size_t matrix = batch.sequence * batch.sequence;
        const size_t step = batch.bias_heads > 1 ? matrix : 0;  // from one head's to the next one's
        const float* bias = batch.bias;
        if (bias != nullptr) bias += (batch.biases > 1 ? text * batch.bias_heads * matrix : 0) + index * group * step;
        const uint8_t* unseen = batch.unseen == nullptr ? nullptr : batch.unseen + first;
        const Text seen{batch.position + first, tokens, w.before, w.after, bias, step, batch.sequence, unseen};
        Attention<Attending>::run(heads, seen, memory);
    }

    static void finish(const Batch& batch, size_t block, Scratch& memory) {
        const LayerWeights& w = *batch.weights;
        const Way tokens(batch, block, memory);
        for (size_t r = 0; r < tokens.rows; ++r) tokens.read_context(r, memory);
        tokens.make_middle(0, w.out.out, memory);
        for (size_t r = 0; r < tokens.rows; ++r) tokens.read_middle(r, memory);
        tokens.grow(0, w.up.out, memory);
        for (size_t r = 0; r < tokens.rows; ++r) tokens.read_grown(r, memory);
        tokens.make_output(0, w.down.out, memory);
        for (size_t r = 0; r < tokens.rows; ++r) tokens.end(r, memory);
    }

    static constexpr Steps kSteps{
        Product<Number>::kRows,
        sizeof(typename Number::InAttention::Element),
        project,
        attend,
        finish,
        reserve,
        {
            {&LayerWeights::qkv, true, row<&Way::read_hidden>},
            {&LayerWeights::qkv, false, panel<&Way::make_qkv>},
            {&LayerWeights::qkv, true, row<&Way::turn>},
        },
        {
            {&LayerWeights::out, true, row<&Way::read_context>},
            {&LayerWeights::out, false, panel<&Way::make_middle>},
            {&LayerWeights::up, true, row<&Way::read_middle>},
            {&LayerWeights::up, false, panel<&Way::grow>},
            {&LayerWeights::down, true, row<&Way::read_grown>},
            {&LayerWeights::down, false, panel<&Way::make_output>},
            {&LayerWeights::up, true, row<&Way::end>},
        }};
};

// For tests, which hold generations side by side.
inline float levels_of(const float* row, const Linear& layer, uint8_t* to) {
    const float scale = take<Int8<Single<false>>>(row, layer, to);
    for (size_t i = 0; i < layer.in; ++i) to[i] = static_cast<uint8_t>(to[i] + kTaken);
    return scale;
}

}  // namespace stcompile::STCOMPILE_GENERATION
