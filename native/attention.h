// Scaled dot-product attention of one head over the tokens of one text, with float32 sums.

#pragma once

#include "linear.h"

namespace stcompile::STCOMPILE_GENERATION {

template <typename T>
inline T* memory_of(Scratch& memory, Slot slot, size_t count) {
    return static_cast<T*>(memory.of(slot, count * sizeof(T)));
}

// Where the rows of queries, keys and values of one head and text lie, queries scaled by log2(e) / sqrt(size).
template <typename Number>
struct Head {
    const typename Number::Element *query, *key, *value;
    size_t stride;  // between tokens
    size_t tokens;
    size_t size;  // a multiple of 16
    float* to;
    size_t to_stride;
};

// What is added to the scores of one head: a row of `width` numbers for each position. Null where nothing is.
struct Bias {
    const float* rows;
    size_t width;
    const int32_t* positions;  // of the text's tokens
};

template <int number>
struct Count {
    static constexpr int value = number;
};

constexpr float kMasked = -1e30f;
constexpr int kQueries = kTileRows;
constexpr int kMostVectors = kVectors;

// Calls run(Count<n>{}, start) for as many vectors of `width` numbers as fit side by side, and once for what is left.
template <int vectors = kMostVectors, typename Run>
inline __attribute__((always_inline)) void across(size_t width, size_t start, const Run& run) {
    for (; start + vectors * kLanes <= width; start += vectors * kLanes) run(Count<vectors>{}, start);
    if constexpr (vectors > 1) {
        if (start < width) across<vectors - 1>(width, start, run);
    }
}

// Scores of a few queries and some vectors of keys, on top of `mask`, whose rows are `mask_step` apart.
template <typename Number, int queries, int vectors>
inline __attribute__((always_inline)) void score_tile(
    const typename Number::Element* query, size_t stride, const int32_t* keys, size_t width, size_t words,
    const float* mask, size_t mask_step, float* to) {
    Floats sum[queries][vectors];
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[q][v] = load(mask + q * mask_step + v * kLanes);
    }
    for (size_t k = 0; k < words; ++k, keys += width) {
        typename Number::Column key[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) key[v] = Number::column(keys + v * kLanes);
#pragma GCC unroll 6
        for (int q = 0; q < queries; ++q) {
            const auto word = Number::word(query + q * stride + Number::kWord * k);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[q][v] = Number::add(sum[q][v], word, key[v]);
        }
    }
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) store(to + q * width + v * kLanes, sum[q][v]);
    }
}

// Values weighed by the chances of a few queries, some vectors of their columns.
template <typename Number, int queries, int vectors>
inline __attribute__((always_inline)) void value_tile(
    const typename Number::Element* chances, size_t width, const int32_t* values, size_t size, const float* sums,
    float* to, size_t stride) {
    Floats sum[queries][vectors];
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
        for (int v = 0; v < vectors; ++v) sum[q][v] = all(0.0f);
    }
    for (size_t k = 0; k < width; k += Number::kWord, values += size) {
        typename Number::Column value[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) value[v] = Number::column(values + v * kLanes);
#pragma GCC unroll 6
        for (int q = 0; q < queries; ++q) {
            const auto word = Number::word(chances + q * width + k);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[q][v] = Number::add(sum[q][v], word, value[v]);
        }
    }
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
        const Floats inverse = all(1.0f / sums[q]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) store(to + q * stride + v * kLanes, sum[q][v] * inverse);
    }
}

// exp2(score - largest) of one row, and their sum.
template <typename Number>
inline float soften(const float* scores, size_t width, typename Number::Element* chances) {
    Floats largest = load(scores);
    for (size_t i = kLanes; i < width; i += kLanes) largest = larger(largest, load(scores + i));
    const Floats most = all(largest_of(largest));
    Floats sum = all(0.0f);
    for (size_t i = 0; i < width; i += kLanes) {
        const Floats chance = Number::exp2(load(scores + i) - most);
        sum = sum + chance;
        store(chances + i, chance);
    }
    return sum_of(sum);
}

// The bias of a few queries from the `first` on, in base 2, and the mask where there is no key. Tokens are mostly
// neighbours; where padding stands between them, their columns are gathered.
inline const float* bias_rows(
    const Bias& bias, size_t first, size_t queries, size_t tokens, size_t width, float* to) {
    const bool neighbours = bias.positions[tokens - 1] - bias.positions[0] == static_cast<int32_t>(tokens) - 1;
    for (size_t q = 0; q < queries; ++q, to += width) {
        const float* row = bias.rows + bias.positions[first + q] * bias.width;
        size_t i = 0;
        if (neighbours) {
            row += bias.positions[0];
            for (; i + kLanes <= tokens; i += kLanes) store(to + i, load(row + i) * all(kLog2E));
        }
        for (; i < tokens; ++i) to[i] = (neighbours ? row[i] : row[bias.positions[i]]) * kLog2E;
        for (; i < width; ++i) to[i] = kMasked;
    }
    return to - queries * width;
}

// Keys and values of a text as the products read them: keys in columns, values in words of neighbouring tokens.
template <typename Number>
inline void pack(const Head<Number>& head, size_t width, int32_t* keys, int32_t* values, float* mask) {
    for (size_t i = 0; i < width; ++i) mask[i] = i < head.tokens ? 0.0f : kMasked;
    for (size_t start = 0; start < width; start += kLanes) {
        const size_t left = start < head.tokens ? head.tokens - start : 0;
        const auto* from = head.key + start * head.stride;
        for (size_t k = 0; k < head.size / Number::kWord; ++k) {
            store_words(
                keys + k * width + start, gather(from + Number::kWord * k, head.stride * sizeof *from, left));
        }
    }
    for (size_t token = 0; token < width; token += Number::kWord, values += head.size) {
        const size_t left = token < head.tokens ? head.tokens - token : 0;
        for (size_t i = 0; i < head.size; i += kLanes) {
            store_words(values + i, Number::beside(head.value + token * head.stride + i, head.stride, left));
        }
    }
}

template <typename Number, int queries>
inline void attend_queries(
    const Head<Number>& head, size_t first, const int32_t* keys, const int32_t* values, const float* mask,
    const Bias& bias, size_t width, Scratch& memory) {
    float* scores = memory_of<float>(memory, kScores, kQueries * width);
    auto* chances = memory_of<typename Number::Element>(memory, kChances, kQueries * width);
    size_t mask_step = 0;
    if (bias.rows != nullptr) {
        mask = bias_rows(
            bias, first, queries, head.tokens, width, memory_of<float>(memory, kBias, kQueries * width));
        mask_step = width;
    }
    across(width, 0, [&](auto vectors, size_t start) {
        score_tile<Number, queries, decltype(vectors)::value>(
            head.query + first * head.stride, head.stride, keys + start, width, head.size / Number::kWord,
            mask + start, mask_step, scores + start);
    });
    float sums[kQueries];
    for (int q = 0; q < queries; ++q) sums[q] = soften<Number>(scores + q * width, width, chances + q * width);
    float* to = head.to + first * head.to_stride;
    across(head.size, 0, [&](auto vectors, size_t column) {
        value_tile<Number, queries, decltype(vectors)::value>(
            chances, width, values + column, head.size, sums, to + column, head.to_stride);
    });
}

template <typename Number, int queries, typename... More>
inline void attend_some(size_t left, More&&... more) {
    if constexpr (queries > 1) {
        if (left < queries) return attend_some<Number, queries - 1>(left, more...);
    }
    attend_queries<Number, queries>(more...);
}

// softmax(Q K^T) V of one head.
template <typename Number>
inline void attend(const Head<Number>& head, const Bias& bias, Scratch& memory) {
    const size_t width = rounded_up(head.tokens, kLanes), words = head.size / Number::kWord;
    int32_t* keys = memory_of<int32_t>(memory, kKeys, words * width);
    int32_t* values = memory_of<int32_t>(memory, kValues, width / Number::kWord * head.size);
    float* mask = memory_of<float>(memory, kMask, width);
    pack(head, width, keys, values, mask);
    for (size_t q = 0; q < head.tokens; q += kQueries) {
        attend_some<Number, kQueries>(head.tokens - q, head, q, keys, values, mask, bias, width, memory);
    }
}

}  // namespace stcompile::STCOMPILE_GENERATION
