// Matrix products of a few rows with packed weights: a tile of a few rows and vectors keeps its sums in registers.

#pragma once

#include "numbers.h"

namespace stcompile::STCOMPILE_GENERATION {

// Tokens that one thread takes through the layer at once: at least enough tiles for a panel of weights to come from
// memory while the one before it is multiplied, and no more, so that a few tokens are shares for several threads. In 8
// bits 24 and 96 are equally fast on one where the weights stay in its cache; float32, four times as large, gains from
// 48 where the last cache is slow. At most four times as many: weights that come from the last cache are read that often
// less.
template <typename Number>
constexpr Block kBlock{(Number::kWord == 1 ? 8 : 4) * kTileRows, 16 * kTileRows, 2 * kTileRows};

constexpr size_t kTileColumns = kVectors * kLanes;
static_assert(kPanel % kTileColumns == 0, "a tile is a whole part of a panel");

// Formats whose columns fill two registers each have smaller tiles.
template <typename Number>
constexpr int kRowsOf = sizeof(typename Number::Column) > sizeof(Ints) ? kTileRows - 2 : kTileRows;

// What the sums of `columns` columns begin with, from the first one on; zeros behind the last one.
template <typename Number, size_t columns>
inline void begin(const Linear& layer, size_t column, typename Number::Sum (&starts)[columns / kLanes]) {
    for (size_t v = 0; v < columns / kLanes; ++v) {
        const size_t at = column + v * kLanes;
        starts[v] = typename Number::Sum{};
        within(layer.out, at, [&](auto lanes) { starts[v] = Number::start(layer, at, lanes); });
    }
}

// Adds some words of rows, times a tile's columns from `panel` on, to `sums`. A function of its own that ends with the
// sums: the compiler keeps them in registers only where it has nothing else to keep.
template <typename Number, int rows>
__attribute__((noinline)) void tile(
    const typename Number::Element* x, size_t stride, const int32_t* panel, size_t words, typename Number::Sum* sums) {
    typename Number::Sum sum[rows][kVectors];
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) sum[r][v] = sums[r * kVectors + v];
    }
    for (size_t k = 0; k < words; ++k, panel += kPanel, x += Number::kWord) {
        typename Number::Column weights[kVectors];
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) weights[v] = Number::column(panel + v * kLanes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            const auto word = Number::word(x + r * stride);
#pragma GCC unroll 4
            for (size_t v = 0; v < kVectors; ++v) sum[r][v] = Number::add(sum[r][v], word, weights[v]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) sums[r * kVectors + v] = sum[r][v];
    }
}

template <typename Number, int rows, typename... More>
inline void tile_of(size_t left, More&&... more) {
    if constexpr (rows > 1) {
        if (left < rows) return tile_of<Number, rows - 1>(left, more...);
    }
    tile<Number, rows>(more...);
}

// Where the rows of a product go, and what each is added to: null where to nothing.
template <typename Stored, size_t rows>
struct Rows {
    Stored* to[rows];
    const float* onto[rows];

    template <typename Lanes>
    void put(size_t row, size_t at, Floats value, Lanes lanes) const {
        const float* added = onto[row];
        store(to[row] + at, added == nullptr ? value : value + load(added + at, lanes), lanes);
    }
};

// The same of a product whose first column is a later one of its layer.
template <typename Output>
struct From {
    const Output& output;
    size_t column;

    template <typename Lanes>
    void put(size_t row, size_t at, Floats value, Lanes lanes) const {
        output.put(row, column + at, value, lanes);
    }
};

// Sums of some rows, from `row` on, with `columns` columns become what the layer puts out.
template <typename Number, size_t columns, typename Output>
inline void put_out(
    const typename Number::Sum* sums, size_t row, size_t rows, const float* scales, const Linear& layer, size_t column,
    const Output& output) {
    each_vector(smaller(columns, layer.out - column), [&](size_t i, auto lanes) {
        const size_t at = column + i;
        for (size_t r = 0; r < rows; ++r) {
            const auto sum = sums[(r * columns + i) / kLanes];
            output.put(row + r, at, Number::finish(sum, scales[row + r], layer, at, lanes), lanes);
        }
    });
}

// x W + b of a block of rows, which are `stride` numbers apart: a tile's columns, and all rows with them.
template <typename Number, typename Output>
inline void multiply_at_once(
    const typename Number::Element* x, size_t stride, const float* scales, size_t rows, const Linear& layer,
    const Output& output) {
    constexpr size_t most = kRowsOf<Number>;
    const size_t words = layer.in / Number::kWord;
    typename Number::Sum first[kVectors], sums[most * kVectors];
    for (size_t column = 0; column < layer.out; column += kTileColumns) {
        const auto* panel =
            static_cast<const int32_t*>(layer.weights) + column / kPanel * kPanel * words + column % kPanel;
        begin<Number, kTileColumns>(layer, column, first);
        for (size_t row = 0; row < rows; row += most) {
            for (size_t i = 0; i < most * kVectors; ++i) sums[i] = first[i % kVectors];
            tile_of<Number, most>(rows - row, x + row * stride, stride, panel, words, sums);
            put_out<Number, kTileColumns>(sums, row, smaller(most, rows - row), scales, layer, column, output);
        }
    }
}

// Words of a panel that all rows are multiplied with before the next ones are, which come from memory meanwhile: twice
// 12 KB, which the first cache holds beside the rows. Down a whole panel, a narrow tile's columns would all lie in a
// quarter of that cache, and the jumps between them are no stream that a CPU reads ahead.
constexpr size_t kDepth = 48, kLine = 16;

// The same, piece by piece of the inner axis: sums wait in memory for the next piece, and are added up in the same order.
template <typename Number, typename Output>
inline void multiply_in_pieces(
    const typename Number::Element* x, size_t stride, const float* scales, size_t rows, const Linear& layer,
    const Output& output) {
    constexpr size_t most = kRowsOf<Number>, vectors = most * kVectors, tiles = kPanel / kTileColumns;
    constexpr size_t blocks = (kBlock<Number>.most + most - 1) / most;
    typename Number::Sum first[kVectors], sums[tiles][blocks][vectors];
    const size_t words = layer.in / Number::kWord, turns = tiles * ((rows + most - 1) / most);
    for (size_t column = 0; column < layer.out; column += kPanel) {
        const size_t here = smaller(tiles, (layer.out - column + kTileColumns - 1) / kTileColumns);
        for (size_t t = 0; t < here; ++t) {
            begin<Number, kTileColumns>(layer, column + t * kTileColumns, first);
            for (size_t row = 0, b = 0; row < rows; row += most, ++b) {
                for (size_t i = 0; i < vectors; ++i) sums[t][b][i] = first[i % kVectors];
            }
        }
        const auto* panel = static_cast<const int32_t*>(layer.weights) + column * words;
        for (size_t word = 0; word < words; word += kDepth, panel += kDepth * kPanel) {
            const size_t depth = smaller(kDepth, words - word);
            const auto* from = x + word * Number::kWord;
            const int32_t* next = panel + depth * kPanel;
            for (size_t t = 0, turn = 0; t < here; ++t) {
                for (size_t row = 0, b = 0; row < rows; row += most, ++b) {
                    constexpr size_t lines = kDepth * kPanel / kLine;
                    const size_t line = lines * turn / turns, end = lines * ++turn / turns;
                    for (size_t l = line; l < end; ++l) __builtin_prefetch(next + l * kLine);
                    tile_of<Number, most>(
                        rows - row, from + row * stride, stride, panel + t * kTileColumns, depth, sums[t][b]);
                }
            }
        }
        for (size_t t = 0; t < here; ++t) {
            for (size_t row = 0, b = 0; row < rows; row += most, ++b) {
                put_out<Number, kTileColumns>(
                    sums[t][b], row, smaller(most, rows - row), scales, layer, column + t * kTileColumns, output);
            }
        }
    }
}

// In 8 bits, a quarter of the memory, the products take longer than their weights.
template <typename Number, typename Output>
inline void multiply(
    const typename Number::Element* x, size_t stride, const float* scales, size_t rows, const Linear& layer,
    const Output& output) {
    if constexpr (kTileColumns < kPanel && Number::kWord < 4) {
        multiply_in_pieces<Number>(x, stride, scales, rows, layer, output);
    } else {
        multiply_at_once<Number>(x, stride, scales, rows, layer, output);
    }
}

}  // namespace stcompile::STCOMPILE_GENERATION
