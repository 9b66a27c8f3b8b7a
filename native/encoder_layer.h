// One layer of a BERT-like encoder (Devlin et al., 2018), post-norm, in three steps over blocks of tokens:
//
//   1. [q | k | v] = h Wqkv + b
//   2. c = softmax(q k^T) v, text by text and head by head
//   3. a = LN(h + c Wo + b);  h' = LN(a + gelu(a W1 + b) W2 + b)
//
// Tokens are those that the attention mask keeps; padding is neither multiplied nor attended to, and stays zero. Every
// token's sums run in one order whatever stands beside it, so a text's rows are the same in every batch, bit by bit.

#pragma once

#include <algorithm>
#include <vector>

#include "attention.h"
#include "linear.h"

namespace stcompile {

struct LayerWeights {
    Linear qkv, out, up, down;
    const float* gain_1 = nullptr;
    const float* bias_1 = nullptr;
    const float* gain_2 = nullptr;
    const float* bias_2 = nullptr;
    float epsilon_1 = 0, epsilon_2 = 0;
    size_t heads = 0;

    size_t hidden() const { return out.out; }
};

// The tokens of a batch behind each other: `place[i]` is the row of the i-th in the padded tensor, and text t has those
// from start[t] up to start[t + 1].
struct Tokens {
    std::vector<size_t> place, start;
    std::vector<int32_t> position;  // of each token in its text, padding counted

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
    size_t count() const { return place.size(); }
    size_t texts() const { return start.size() - 1; }
};

// What is added to the scores: (texts, heads, sequence, sequence), or one for all texts; null where there is none.
struct ScoreBias {
    const float* data;
    size_t texts, heads, sequence;

    const float* of(size_t text, size_t head) const {
        const size_t matrix = sequence * sequence;
        return data == nullptr ? nullptr : data + ((texts > 1 ? text * heads : 0) + head) * matrix;
    }
};

struct ThreadMemory {
    AttentionMemory attention;
    Buffer levels, wide, middle;
    Tokens tokens;
    Buffer qkv, context;
};

// What a thread keeps for the next layer of what follows the number of tokens. Only long texts need more, whose layers
// take seconds.
constexpr size_t kKeptBytes = 16 << 20;

inline ThreadMemory& thread_memory() {
    static thread_local ThreadMemory memory;
    return memory;
}

// Tokens that one thread takes through the layer at once: enough tiles for a panel of weights to come from memory while
// the one before it is multiplied, and no more, so that a few tokens are shares for several threads. 24 and 96 are
// equally fast on one.
constexpr size_t kMostRows = 4 * kTileRows;

template <typename Number>
class EncoderLayer {
  public:
    EncoderLayer(
        const LayerWeights& weights, const float* hidden, const Tokens& tokens, const ScoreBias& bias,
        ThreadMemory& caller, float* to)
        : w_(weights), hidden_(hidden), tokens_(tokens), bias_(bias), to_(to) {
        qkv_ = caller.qkv.of<typename Attending::Element>(tokens.count() * 3 * w_.hidden());
        context_ = caller.context.of<float>(tokens.count() * w_.hidden());
    }

    size_t blocks() const { return (tokens_.count() + kMostRows - 1) / kMostRows; }
    size_t attentions() const { return tokens_.texts() * w_.heads; }

    void project(size_t block) const {
        ThreadMemory& memory = thread_memory();
        const size_t first = block * kMostRows, rows = rows_from(first), width = w_.hidden();
        auto* x = memory.levels.of<Element>(rows * width);
        float scales[kMostRows];
        for (size_t r = 0; r < rows; ++r) {
            scales[r] = take<Number>(hidden_ + tokens_.place[first + r] * width, w_.qkv, x + r * width);
        }
        auto* to = qkv_ + first * 3 * width;
        multiply<Number>(x, scales, rows, w_.qkv, [&](size_t r, size_t at, __m512 value) {
            Attending::store(to + r * 3 * width + at, value);
        });
    }

    void attend_head(size_t index) const {
        const size_t text = index / w_.heads, head = index % w_.heads, width = w_.hidden();
        const size_t first = tokens_.start[text], count = tokens_.start[text + 1] - first;
        if (count == 0) return;
        const Heads<Attending> heads{qkv_ + first * 3 * width, count, width, width / w_.heads};
        const Bias bias{bias_.of(text, head), bias_.sequence, tokens_.position.data() + first};
        attend(heads, head, bias, thread_memory().attention, context_ + first * width + head * heads.size);
    }

    void finish(size_t block) const {
        ThreadMemory& memory = thread_memory();
        const size_t first = block * kMostRows, rows = rows_from(first), width = w_.hidden(), wide = w_.up.out;
        auto* x = memory.levels.of<Element>(rows * std::max(width, wide));
        float* middle = memory.middle.of<float>(rows * width);
        float* grown = memory.wide.of<float>(rows * wide);
        float scales[kMostRows];

        for (size_t r = 0; r < rows; ++r) {
            scales[r] = take<Number>(context_ + (first + r) * width, w_.out, x + r * width);
        }
        multiply<Number>(x, scales, rows, w_.out, [&](size_t r, size_t at, __m512 value) {
            const float* residual = hidden_ + tokens_.place[first + r] * width + at;
            _mm512_storeu_ps(middle + r * width + at, _mm512_add_ps(value, _mm512_loadu_ps(residual)));
        });
        for (size_t r = 0; r < rows; ++r) {
            layer_norm(middle + r * width, width, w_.gain_1, w_.bias_1, w_.epsilon_1);
            scales[r] = take<Number>(middle + r * width, w_.up, x + r * width);
        }
        multiply<Number>(x, scales, rows, w_.up, [&](size_t r, size_t at, __m512 value) {
            _mm512_storeu_ps(grown + r * wide + at, value);
        });
        for (size_t r = 0; r < rows; ++r) scales[r] = take_gelu<Number>(grown + r * wide, w_.down, x + r * wide);
        multiply<Number>(x, scales, rows, w_.down, [&](size_t r, size_t at, __m512 value) {
            const __m512 residual = _mm512_loadu_ps(middle + r * width + at);
            _mm512_storeu_ps(to_ + tokens_.place[first + r] * width + at, _mm512_add_ps(value, residual));
        });
        for (size_t r = 0; r < rows; ++r) {
            layer_norm(to_ + tokens_.place[first + r] * width, width, w_.gain_2, w_.bias_2, w_.epsilon_2);
        }
    }

  private:
    using Element = typename Number::Element;
    using Attending = typename Number::InAttention;

    size_t rows_from(size_t first) const { return std::min(kMostRows, tokens_.count() - first); }

    const LayerWeights& w_;
    const float* hidden_;
    const Tokens& tokens_;
    const ScoreBias& bias_;
    float* to_;
    typename Attending::Element* qkv_;
    float* context_;
};

}  // namespace stcompile
