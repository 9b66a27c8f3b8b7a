// Matrix products of a few rows with packed weights: a tile of a few rows and vectors keeps its sums in registers.

#pragma once

#include "numbers.h"

namespace stcompile::STCOMPILE_GENERATION {

// Tokens that one thread takes through the layer at once: enough tiles for a panel of weights to come from memory while
// the one before it is multiplied, and no more, so that a few tokens are shares for several threads. 24 and 96 are
// equally fast on one.
constexpr size_t kBlock = 4 * kTileRows;

constexpr size_t kTileColumns = kVectors * kLanes;
static_assert(kPanel % kTileColumns == 0, "a tile is a whole part of a panel");

// Formats whose columns fill two registers each have smaller tiles.
template <typename Number>
constexpr int kRowsOf = sizeof(typename Number::Column) > sizeof(Ints) ? kTileRows - 2 : kTileRows;

template <typename Number, int rows, typename Output>
inline __attribute__((always_inline)) void tile(
    const typename Number::Element* x, size_t stride, const float* scales, const Linear& layer, size_t column,
    const Output& output, size_t row) {
    typename Number::Sum sum[rows][kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
        const size_t at = column + v * kLanes;
        typename Number::Sum first{};
        within(layer.out, at, [&](auto lanes) { first = Number::start(layer, at, lanes); });
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) sum[r][v] = first;
    }
    const size_t words = layer.in / Number::kWord;
    const auto* panel =
        static_cast<const int32_t*>(layer.weights) + column / kPanel * kPanel * words + column % kPanel;
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
        const float* onto = output.onto[row + r];
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) {
            const size_t at = column + v * kLanes;
            within(layer.out, at, [&](auto lanes) {
                const Floats value = Number::finish(sum[r][v], scales[r], layer, at, lanes);
                store(output.to[row + r] + at, onto == nullptr ? value : value + load(onto + at, lanes), lanes);
            });
        }
    }
}

template <typename Number, int rows, typename... More>
inline __attribute__((always_inline)) void tile_of(size_t left, More&&... more) {
    if constexpr (rows > 1) {
        if (left < rows) return tile_of<Number, rows - 1>(left, more...);
    }
    tile<Number, rows>(more...);
}

// x W + b of a block of rows, which are `stride` numbers apart.
template <typename Number, typename Output>
inline void multiply(
    const typename Number::Element* x, size_t stride, const float* scales, size_t rows, const Linear& layer,
    const Output& output) {
    for (size_t column = 0; column < layer.out; column += kTileColumns) {
        for (size_t row = 0; row < rows; row += kRowsOf<Number>) {
            tile_of<Number, kRowsOf<Number>>(
                rows - row, x + row * stride, stride, scales + row, layer, column, output, row);
        }
    }
}

}  // namespace stcompile::STCOMPILE_GENERATION
