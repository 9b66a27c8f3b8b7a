// Scaled dot-product attention of the heads that share keys over the tokens of one text, with float32 sums.
//
// Where a token sees only some others, a tile of queries is multiplied with the keys from the first to the last that
// any of them sees, rounded out to whole vectors: a window costs what it keeps, a causal mask half.

#pragma once

#include "sight.h"

namespace stcompile::STCOMPILE_GENERATION {

// Where the rows of one key head of a text lie, and of the query heads that read it, queries scaled by
// log2(e) / sqrt(size).
template <typename Number>
struct Heads {
    const typename Number::Element *query, *key, *value;
    size_t stride;  // between tokens
    size_t size;    // a multiple of 16
    size_t count;   // of query heads, beside each other
    float* to;
    size_t to_stride;
    size_t first, end;  // the queries that are wanted: first is a multiple of kShare
    float cap;          // of the scores, in base 2 as they are; 0 for none
};

template <int number>
struct Count {
    static constexpr int value = number;
};

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

// Scores of a few queries and some vectors of keys, whose words are `step` apart, on top of `mask`.
template <typename Number, int queries, int vectors>
inline __attribute__((always_inline)) void score_tile(
    const typename Number::Element* query, size_t query_stride, const int32_t* keys, size_t step, size_t words,
    MaskRows mask, float* to, size_t stride) {
    Floats sum[queries][vectors];
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) sum[q][v] = load(mask.first + q * mask.step + v * kLanes);
    }
    for (size_t k = 0; k < words; ++k, keys += step) {
        typename Number::Column key[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) key[v] = Number::column(keys + v * kLanes);
#pragma GCC unroll 6
        for (int q = 0; q < queries; ++q) {
            const auto word = Number::word(query + q * query_stride + Number::kWord * k);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[q][v] = Number::add(sum[q][v], word, key[v]);
        }
    }
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) store(to + q * stride + v * kLanes, sum[q][v]);
    }
}

// Values weighed by the chances of a few queries, some vectors of their columns, whose rows are `step` words apart.
template <typename Number, int queries, int vectors>
inline __attribute__((always_inline)) void value_tile(
    const typename Number::Element* chances, size_t stride, size_t keys, const int32_t* values, size_t step,
    const float* sums, float* to, size_t to_stride) {
    Floats sum[queries][vectors];
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
        for (int v = 0; v < vectors; ++v) sum[q][v] = all(0.0f);
    }
    for (size_t k = 0; k < keys; k += Number::kWord, values += step) {
        typename Number::Column value[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) value[v] = Number::column(values + v * kLanes);
#pragma GCC unroll 6
        for (int q = 0; q < queries; ++q) {
            const auto word = Number::word(chances + q * stride + k);
#pragma GCC unroll 4
            for (int v = 0; v < vectors; ++v) sum[q][v] = Number::add(sum[q][v], word, value[v]);
        }
    }
#pragma GCC unroll 6
    for (int q = 0; q < queries; ++q) {
        const Floats inverse = all(1.0f / sums[q]);
#pragma GCC unroll 4
        for (int v = 0; v < vectors; ++v) store(to + q * to_stride + v * kLanes, sum[q][v] * inverse);
    }
}

// cap tanh(score / cap) of one row (Bello et al., 2016), and the mask on top: what hides a key is not bent.
inline void bend(float* scores, const float* mask, size_t width, float cap) {
    const Floats most = all(cap), share = all(1.0f / cap);
    for (size_t i = 0; i < width; i += kLanes) {
        store(scores + i, fused(most, tanh(load(scores + i) * share), load(mask + i)));
    }
}

// What tiles of scores begin with where the mask is added behind.
alignas(64) constexpr float kNoMask[kMostVectors * kLanes] = {};

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

// How keys and values are packed: words between vectors beside each other, and between what is multiplied one after the
// other. `kPanels`: each vector's lie behind each other in memory, as tiles are read.
enum class Packing { kRows, kPanels };

// Keys and values as products read them, of `width` tokens from `first` on: keys in columns, values in words of
// neighbouring tokens.
struct Packed {
    int32_t *keys, *values;
    size_t first, width;
    size_t key_vector, key_step, value_vector, value_step;
    // Between rows of scores: no power of two, whose rows would fall out of the cache together.
    size_t stride() const { return width + 2 * kLanes; }
};

template <Packing packing, typename Number>
inline Packed pack(const Heads<Number>& heads, const Text& text, size_t multiple, Scratch& memory) {
    Span seen{0, 0};
    advance(seen, text, heads.first, heads.end - 1);
    const size_t first = seen.first / multiple * multiple, width = rounded_up(seen.end - first, multiple);
    const size_t words = heads.size / Number::kWord, rows = width / Number::kWord, row = width + kLanes;
    Packed packed{nullptr, nullptr, first, width, kLanes, row, kLanes, heads.size};
    if (packing == Packing::kPanels) {
        packed = {nullptr, nullptr, first, width, words * kLanes, kLanes, rows * kLanes, kLanes};
    }
    packed.keys = memory_of<int32_t>(memory, kKeys, words * row);
    packed.values = memory_of<int32_t>(memory, kValues, rows * heads.size);
    const auto* key = heads.key + first * heads.stride;
    int32_t* to = packed.keys;
    for (size_t start = 0; start < width; start += kLanes, key += kLanes * heads.stride, to += packed.key_vector) {
        const size_t left = first + start < text.tokens ? text.tokens - first - start : 0;
        each_vector(words, [&](size_t k, auto lanes) {
            Ints block[kLanes];
            for (size_t r = 0; r < kLanes; ++r) {
                block[r] = r < left ? load_words(key + r * heads.stride + Number::kWord * k, lanes) : Ints{};
            }
            transpose(block);
            const size_t here = smaller(kLanes, words - k);
            for (size_t r = 0; r < here; ++r) store_words(to + (k + r) * packed.key_step, block[r]);
        });
    }
    const auto* value = heads.value + first * heads.stride;
    for (size_t token = 0; token < width; token += Number::kWord, value += Number::kWord * heads.stride) {
        const size_t left = first + token < text.tokens ? text.tokens - first - token : 0;
        to = packed.values + token / Number::kWord * packed.value_step;
        for (size_t i = 0; i < heads.size; i += kLanes, to += packed.value_vector) {
            store_words(to, Number::beside(value + i, heads.stride, left));
        }
    }
    return packed;
}

template <typename Number, int queries>
inline void attend_queries(
    const Heads<Number>& heads, size_t first, const Packed& packed, Sight& sight, Scratch& memory) {
    const size_t stride = packed.stride(), size = heads.size, words = size / Number::kWord;
    float* scores = memory_of<float>(memory, kScores, kQueries * stride);
    auto* chances = memory_of<typename Number::Element>(memory, kChances, kQueries * stride);
    sight.move(first, queries);
    const size_t start = sight.first() - packed.first, keys = sight.width();
    const auto* query = heads.query + first * heads.stride;
    float* to = heads.to + first * heads.to_stride;
    for (size_t head = 0; head < heads.count; ++head, query += size, to += size) {
        const MaskRows mask = sight.rows(head);
        across(keys, 0, [&](auto vectors, size_t at) {
            const MaskRows begun = heads.cap > 0 ? MaskRows{kNoMask, 0} : MaskRows{mask.first + at, mask.step};
            score_tile<Number, queries, decltype(vectors)::value>(
                query, heads.stride, packed.keys + start + at, packed.key_step, words, begun, scores + at, stride);
        });
        float sums[kQueries];
        for (int q = 0; q < queries; ++q) {
            if (heads.cap > 0) bend(scores + q * stride, mask.first + q * mask.step, keys, heads.cap);
            sums[q] = soften<Number>(scores + q * stride, keys, chances + q * stride);
        }
        const int32_t* values = packed.values + start / Number::kWord * packed.value_step;
        across(size, 0, [&](auto vectors, size_t column) {
            value_tile<Number, queries, decltype(vectors)::value>(
                chances, stride, keys, values + column, packed.value_step, sums, to + column, heads.to_stride);
        });
    }
}

template <typename Number, int queries, typename... More>
inline void attend_some(size_t left, More&&... more) {
    if constexpr (queries > 1) {
        if (left < queries) return attend_some<Number, queries - 1>(left, more...);
    }
    attend_queries<Number, queries>(more...);
}

// softmax(Q K^T) V of the wanted queries of each head.
template <typename Number>
inline void attend(const Heads<Number>& heads, const Text& text, Scratch& memory) {
    static_assert(kShare % kQueries == 0, "tiles of queries are the same in every share");
    const Packed packed = pack<Packing::kRows>(heads, text, kLanes, memory);
    Sight sight(text, packed.first, packed.width, kLanes, kQueries, memory);
    for (size_t q = heads.first; q < heads.end; q += kQueries) {
        attend_some<Number, kQueries>(heads.end - q, heads, q, packed, sight, memory);
    }
}

}  // namespace stcompile::STCOMPILE_GENERATION
