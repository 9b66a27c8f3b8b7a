// Scaled dot-product attention of one head over the tokens of one text, with float32 sums.

#pragma once

#include <cstdlib>
#include <new>
#include <type_traits>

#include "linear.h"

namespace stcompile {

// Memory of one thread; it grows to the longest text and stays until it is let go.
class Buffer {
  public:
    Buffer() = default;
    Buffer(const Buffer&) = delete;
    Buffer& operator=(const Buffer&) = delete;
    ~Buffer() { std::free(data_); }

    template <typename T>
    T* of(size_t count) {
        const size_t bytes = (count * sizeof(T) + 63) / 64 * 64;
        if (bytes > size_) {
            let_go_above(0);
            data_ = std::aligned_alloc(64, bytes);
            if (data_ == nullptr) throw std::bad_alloc();
            size_ = bytes;
        }
        return static_cast<T*>(data_);
    }

    void let_go_above(size_t bytes) {
        if (size_ <= bytes) return;
        std::free(data_);
        data_ = nullptr;
        size_ = 0;
    }

  private:
    void* data_ = nullptr;
    size_t size_ = 0;
};

// Where the rows of queries, keys and values of one text lie: [query | key | value] a token, queries scaled by
// log2(e) / sqrt(size).
template <typename Number>
struct Heads {
    const typename Number::Element* rows;
    size_t tokens;
    size_t hidden;
    size_t size;  // of one head: a multiple of 32
};

// What is added to the scores of one head: a row of `width` numbers for each position. Null where nothing is.
struct Bias {
    const float* rows;
    size_t width;
    const int32_t* positions;  // of the text's tokens
};

constexpr float kLog2E = 1.44269504f;

struct AttentionMemory {
    Buffer keys, values, scores, weights, mask, bias;
};

template <int value>
using Count = std::integral_constant<int, value>;

constexpr float kMasked = -1e30f;
constexpr int kQueries = 6;

// Scores of a few queries and 16 * blocks keys, on top of `mask`, whose rows are `mask_step` apart.
template <typename Number, int queries, int blocks>
inline __attribute__((always_inline)) void score_tile(
    const typename Number::Element* query, size_t stride, const int32_t* keys, size_t width, size_t words,
    const float* mask, size_t mask_step, float* to) {
    __m512 sum[queries][blocks];
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) sum[q][b] = _mm512_loadu_ps(mask + q * mask_step + b * kLanes);
    }
    for (size_t k = 0; k < words; ++k, keys += width) {
        __m512i key[blocks];
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) key[b] = _mm512_loadu_si512(keys + b * kLanes);
#pragma GCC unroll 6
        for (int q = 0; q < queries; ++q) {
            const __m512i word = broadcast_word(query + q * stride + Number::kWord * k);
#pragma GCC unroll 4
            for (int b = 0; b < blocks; ++b) sum[q][b] = Number::add(sum[q][b], word, key[b]);
        }
    }
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) _mm512_storeu_ps(to + q * width + b * kLanes, sum[q][b]);
    }
}

// Values weighed by the probabilities of a few queries, 16 * blocks columns of them.
template <typename Number, int queries, int blocks>
inline __attribute__((always_inline)) void value_tile(
    const typename Number::Element* weights, size_t width, const int32_t* values, size_t size, const float* sums,
    float* to, size_t stride) {
    __m512 sum[queries][blocks];
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
        for (int b = 0; b < blocks; ++b) sum[q][b] = _mm512_setzero_ps();
    }
    for (size_t k = 0; k < width; k += Number::kWord, values += size) {
        __m512i value[blocks];
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) value[b] = _mm512_loadu_si512(values + b * kLanes);
#pragma GCC unroll 6
        for (int q = 0; q < queries; ++q) {
            const __m512i word = broadcast_word(weights + q * width + k);
#pragma GCC unroll 4
            for (int b = 0; b < blocks; ++b) sum[q][b] = Number::add(sum[q][b], word, value[b]);
        }
    }
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
        const __m512 inverse = _mm512_set1_ps(1.0f / sums[q]);
#pragma GCC unroll 4
        for (int b = 0; b < blocks; ++b) {
            _mm512_storeu_ps(to + q * stride + b * kLanes, _mm512_mul_ps(sum[q][b], inverse));
        }
    }
}

// exp2(score - largest) of one row, and their sum.
template <typename Number>
inline float soften(const float* scores, size_t width, typename Number::Element* weights) {
    __m512 largest = _mm512_loadu_ps(scores);
    for (size_t i = kLanes; i < width; i += kLanes) largest = _mm512_max_ps(largest, _mm512_loadu_ps(scores + i));
    const __m512 most = _mm512_set1_ps(_mm512_reduce_max_ps(largest));
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += kLanes) {
        const __m512 weight = Number::exp2(_mm512_sub_ps(_mm512_loadu_ps(scores + i), most));
        sum = _mm512_add_ps(sum, weight);
        Number::store(weights + i, weight);
    }
    return _mm512_reduce_add_ps(sum);
}

// The bias of a few queries from the `first` on, in base 2, and the mask where there is no key. Tokens are mostly
// neighbours; where padding stands between them, their columns are gathered.
template <int queries>
inline const float* bias_rows(const Bias& bias, size_t first, size_t tokens, size_t width, float* to) {
    const __m512 factor = _mm512_set1_ps(kLog2E), masked = _mm512_set1_ps(kMasked);
    const bool neighbours = bias.positions[tokens - 1] - bias.positions[0] == static_cast<int32_t>(tokens) - 1;
    for (int q = 0; q < queries; ++q) {
        const float* row = bias.rows + bias.positions[first + q] * bias.width;
        for (size_t i = 0; i < width; i += kLanes) {
            const __mmask16 real = lanes_up_to(tokens - i);
            const __m512 found =
                neighbours ? _mm512_maskz_loadu_ps(real, row + bias.positions[0] + i)
                           : _mm512_mask_i32gather_ps(
                                 masked, real, _mm512_maskz_loadu_epi32(real, bias.positions + i), row, sizeof *row);
            _mm512_storeu_ps(to + q * width + i, _mm512_mask_mul_ps(masked, real, found, factor));
        }
    }
    return to;
}

template <typename Number, int queries>
inline void attend_queries(
    const Heads<Number>& heads, const typename Number::Element* query, const int32_t* keys, const int32_t* values,
    const float* mask, size_t mask_step, size_t width, AttentionMemory& memory, float* to) {
    float* scores = memory.scores.of<float>(kQueries * width);
    auto* weights = memory.weights.of<typename Number::Element>(kQueries * width);
    const size_t stride = 3 * heads.hidden, words = heads.size / Number::kWord;
    size_t start = 0;
    const auto score = [&](auto blocks) {
        score_tile<Number, queries, decltype(blocks)::value>(
            query, stride, keys + start, width, words, mask + start, mask_step, scores + start);
    };
    for (; start + 64 <= width; start += 64) score(Count<4>{});
    switch ((width - start) / kLanes) {
        case 1: score(Count<1>{}); break;
        case 2: score(Count<2>{}); break;
        case 3: score(Count<3>{}); break;
        default: break;
    }
    float sums[kQueries];
    for (int q = 0; q < queries; ++q) sums[q] = soften<Number>(scores + q * width, width, weights + q * width);
    size_t column = 0;
    for (; column + 64 <= heads.size; column += 64) {
        value_tile<Number, queries, 4>(weights, width, values + column, heads.size, sums, to + column, heads.hidden);
    }
    if (column < heads.size) {
        value_tile<Number, queries, 2>(weights, width, values + column, heads.size, sums, to + column, heads.hidden);
    }
}

// softmax(Q K^T) V of one head; `to` is the head's first column in rows of `hidden` floats.
template <typename Number>
inline void attend(const Heads<Number>& heads, size_t head, const Bias& bias, AttentionMemory& memory, float* to) {
    const size_t stride = 3 * heads.hidden, size = heads.size, words = size / Number::kWord;
    const size_t width = (heads.tokens + kLanes - 1) / kLanes * kLanes;
    const auto* query = heads.rows + head * size;
    const auto* key = query + heads.hidden;
    const auto* value = key + heads.hidden;
    int32_t* keys = memory.keys.of<int32_t>(words * width);
    int32_t* values = memory.values.of<int32_t>(width / Number::kWord * size);
    float* mask = memory.mask.of<float>(width);

    const __m512i lanes = _mm512_set_epi32(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0);
    const __m512i steps = _mm512_mullo_epi32(lanes, _mm512_set1_epi32(static_cast<int>(stride * sizeof *key)));
    for (size_t start = 0; start < width; start += kLanes) {
        const __mmask16 real = lanes_up_to(heads.tokens - start);
        _mm512_storeu_ps(mask + start, _mm512_mask_blend_ps(real, _mm512_set1_ps(kMasked), _mm512_setzero_ps()));
        const auto* from = key + start * stride;
        for (size_t k = 0; k < words; ++k) {
            const __m512i column =
                _mm512_mask_i32gather_epi32(_mm512_setzero_si512(), real, steps, from + Number::kWord * k, 1);
            _mm512_storeu_si512(keys + k * width + start, column);
        }
    }
    for (size_t token = 0; token < width; token += Number::kWord) {
        int32_t* words_of = values + token / Number::kWord * size;
        const size_t left = token < heads.tokens ? heads.tokens - token : 0;
        for (size_t i = 0; i < size; i += kLanes) {
            _mm512_storeu_si512(words_of + i, Number::beside(value + token * stride + i, stride, left));
        }
    }
    float* strip = bias.rows == nullptr ? nullptr : memory.bias.of<float>(kQueries * width);
    for (size_t q = 0; q < heads.tokens; q += kQueries) {
        const auto* from = query + q * stride;
        float* into = to + q * heads.hidden;
        const auto run = [&](auto count) {
            constexpr int queries = decltype(count)::value;
            const float* added = strip == nullptr ? mask : bias_rows<queries>(bias, q, heads.tokens, width, strip);
            const size_t step = strip == nullptr ? 0 : width;
            attend_queries<Number, queries>(heads, from, keys, values, added, step, width, memory, into);
        };
        switch (heads.tokens - q) {
            case 1: run(Count<1>{}); break;
            case 2: run(Count<2>{}); break;
            case 3: run(Count<3>{}); break;
            case 4: run(Count<4>{}); break;
            case 5: run(Count<5>{}); break;
            default: run(Count<6>{});
        }
    }
}

}  // namespace stcompile
