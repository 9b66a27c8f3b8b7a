// Matrix products of a few rows with packed weights, in 8-bit integers (VNNI), in bfloat16 and in float32.
//
// Weights are packed in panels of 64 columns: for each word of the inner axis (four int8, two bfloat16 or one float32),
// the words of the 64 columns beside each other. A tile of 6 rows times 64 columns keeps its 24 sums in registers.

#pragma once

#include <algorithm>

#include "vectors.h"

namespace stcompile {

constexpr size_t kPanel = 64;
constexpr size_t kTileRows = 6;
constexpr int kMiddle = 128;  // zero point of levels that serve both signs alike
constexpr size_t kVectors = kPanel / kLanes;

// One linear layer, y = x W + b; the arrays are the graph's own initializers.
struct Linear {
    size_t in = 0, out = 0;
    const void* weights = nullptr;   // packed
    const float* scale = nullptr;    // (out): of each column's integers
    const float* bias = nullptr;     // (out)
    const float* smooth = nullptr;   // (in): what the input is multiplied by before it is rounded
    const int32_t* offset = nullptr; // (out): minus the zero point times the column's sum
    int zero_point = 128;            // level of 0, which leaves 255 less that above it
    float smallest = 1e-12f;         // least scale
};

// Activations of a block of rows as 8-bit levels, one scale a row.
struct Int8 {
    using Element = uint8_t;
    using Sum = __m512i;
    using InAttention = struct Bfloat16;
    static constexpr size_t kWord = 4;

    // Rounds one row; `prepare(i)` gives its numbers from i on. Returns the row's scale.
    template <typename Prepare>
    static float take(const float* from, size_t width, const Linear& layer, Element* to, Prepare prepare) {
        __m512 largest = _mm512_setzero_ps(), least = _mm512_setzero_ps();
        for (size_t i = 0; i < width; i += kLanes) {
            const __m512 x = _mm512_mul_ps(prepare(i), _mm512_loadu_ps(layer.smooth + i));
            largest = _mm512_max_ps(largest, x);
            least = _mm512_min_ps(least, x);
        }
        float scale = std::max(layer.smallest, _mm512_reduce_max_ps(largest) / (255.0f - layer.zero_point));
        // Where the middle is not the zero point, `smallest` covers what values may go down to.
        if (layer.zero_point == kMiddle) scale = std::max(scale, -_mm512_reduce_min_ps(least) / kMiddle);
        const __m512 inverse = _mm512_set1_ps(1.0f / scale);
        const __m512i zero = _mm512_set1_epi32(layer.zero_point);
        for (size_t i = 0; i < width; i += kLanes) {
            const __m512 x = _mm512_mul_ps(_mm512_loadu_ps(from + i), _mm512_loadu_ps(layer.smooth + i));
            const __m512i level = _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_mul_ps(x, inverse)), zero);
            const __m512i kept = _mm512_max_epi32(level, _mm512_setzero_si512());
            _mm_storeu_si128(reinterpret_cast<__m128i*>(to + i), _mm512_cvtusepi32_epi8(kept));
        }
        return scale;
    }
    static Sum start(const Linear& layer, size_t column) { return _mm512_loadu_si512(layer.offset + column); }
    // Not the intrinsic: GCC 12 copies and spills its sums, which halves the speed.
    static Sum add(Sum sum, __m512i row, __m512i column) {
        __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(row), "v"(column));
        return sum;
    }
    static __m512 finish(Sum sum, float scale, const Linear& layer, size_t column) {
        const __m512 factor = _mm512_mul_ps(_mm512_set1_ps(scale), _mm512_loadu_ps(layer.scale + column));
        return _mm512_fmadd_ps(_mm512_cvtepi32_ps(sum), factor, _mm512_loadu_ps(layer.bias + column));
    }
};

// What numbers without scales have in common: sums in float32 that begin with the bias.
template <typename Number, typename Stored>
struct Floating {
    using Element = Stored;
    using Sum = __m512;
    using InAttention = Number;

    template <typename Prepare>
    static float take(const float*, size_t width, const Linear&, Element* to, Prepare prepare) {
        for (size_t i = 0; i < width; i += kLanes) Number::store(to + i, prepare(i));
        return 1.0f;
    }
    static Sum start(const Linear& layer, size_t column) { return _mm512_loadu_ps(layer.bias + column); }
    static __m512 finish(Sum sum, float, const Linear&, size_t) { return sum; }
};

// Activations rounded to bfloat16; sums stay float32.
struct Bfloat16 : Floating<Bfloat16, uint16_t> {
    static constexpr size_t kWord = 2;

    static Sum add(Sum sum, __m512i row, __m512i column) {
        return _mm512_dpbf16_ps(sum, (__m512bh)row, (__m512bh)column);
    }
    static void store(Element* to, __m512 x) { store_bfloat16(to, x); }
    // The words of sixteen columns of one token and the next; zeros for tokens from `left` on.
    static __m512i beside(const Element* at, size_t stride, size_t left) {
        const auto row = [&](size_t token) {
            if (token >= left) return _mm512_setzero_si512();
            return _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at + token * stride)));
        };
        return _mm512_or_si512(row(0), _mm512_slli_epi32(row(1), 16));
    }
    static __m512 exp2(__m512 x) { return exp2_of_negative(x); }
    static __m512 gelu(__m512 x) { return stcompile::gelu(x); }
};

// Everything in float32.
struct Float32 : Floating<Float32, float> {
    static constexpr size_t kWord = 1;

    static Sum add(Sum sum, __m512i row, __m512i column) {
        return _mm512_fmadd_ps(_mm512_castsi512_ps(row), _mm512_castsi512_ps(column), sum);
    }
    static void store(Element* to, __m512 x) { _mm512_storeu_ps(to, x); }
    static __m512i beside(const Element* at, size_t, size_t left) {
        return left > 0 ? _mm512_castps_si512(_mm512_loadu_ps(at)) : _mm512_setzero_si512();
    }
    static __m512 exp2(__m512 x) { return exp2_of_negative_exactly(x); }
    static __m512 gelu(__m512 x) { return gelu_exactly(x); }
};

// A row as the input of a layer.
template <typename Number>
inline float take(const float* row, const Linear& layer, typename Number::Element* to) {
    return Number::take(row, layer.in, layer, to, [&](size_t i) { return _mm512_loadu_ps(row + i); });
}

// The GELU of a row as the input of a layer, and in the row's own place. Not where the row is multiplied: its constants
// would push the sums out of the registers.
template <typename Number>
inline float take_gelu(float* row, const Linear& layer, typename Number::Element* to) {
    return Number::take(row, layer.in, layer, to, [&](size_t i) {
        const __m512 value = Number::InAttention::gelu(_mm512_loadu_ps(row + i));
        _mm512_storeu_ps(row + i, value);
        return value;
    });
}

template <typename Number, int rows, typename Use>
inline __attribute__((always_inline)) void tile(
    const typename Number::Element* x, const float* scales, const Linear& layer, size_t column, Use use) {
    typename Number::Sum sum[rows][kVectors];
    for (size_t v = 0; v < kVectors; ++v) {
        const auto first = Number::start(layer, column + v * kLanes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) sum[r][v] = first;
    }
    const auto* panel = static_cast<const int32_t*>(layer.weights) + column * (layer.in / Number::kWord);
    for (size_t k = 0; k < layer.in; k += Number::kWord, panel += kPanel) {
        __m512i weights[kVectors];
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) weights[v] = _mm512_loadu_si512(panel + v * kLanes);
#pragma GCC unroll 6
        for (int r = 0; r < rows; ++r) {
            const __m512i word = broadcast_word(x + r * layer.in + k);
#pragma GCC unroll 4
            for (size_t v = 0; v < kVectors; ++v) sum[r][v] = Number::add(sum[r][v], word, weights[v]);
        }
    }
#pragma GCC unroll 6
    for (int r = 0; r < rows; ++r) {
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) {
            const size_t at = column + v * kLanes;
            use(r, at, Number::finish(sum[r][v], scales[r], layer, at));
        }
    }
}

// Calls use(row, column, sixteen values) for every value of x W + b.
template <typename Number, typename Use>
inline void multiply(
    const typename Number::Element* x, const float* scales, size_t rows, const Linear& layer, Use use) {
    for (size_t column = 0; column < layer.out; column += kPanel) {
        for (size_t row = 0; row < rows; row += kTileRows) {
            const auto* from = x + row * layer.in;
            const float* of = scales + row;
            const auto shifted = [&](size_t r, size_t at, __m512 value) { use(row + r, at, value); };
            switch (rows - row) {
                case 1: tile<Number, 1>(from, of, layer, column, shifted); break;
                case 2: tile<Number, 2>(from, of, layer, column, shifted); break;
                case 3: tile<Number, 3>(from, of, layer, column, shifted); break;
                case 4: tile<Number, 4>(from, of, layer, column, shifted); break;
                case 5: tile<Number, 5>(from, of, layer, column, shifted); break;
                default: tile<Number, 6>(from, of, layer, column, shifted);
            }
        }
    }
}

}  // namespace stcompile
