// Vectors of eight numbers: AVX2 and FMA, with AVX-VNNI where the unit is compiled for it.

#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../contract.h"

namespace stcompile::STCOMPILE_GENERATION {

using Floats = __m256;
using Ints = __m256i;

constexpr size_t kLanes = 8;
constexpr size_t kVectors = 2;  // side by side in a tile: with 6 rows, 12 of 16 registers are sums
constexpr int kTileRows = 6;

inline Floats all(float x) { return _mm256_set1_ps(x); }
inline Floats load(const float* at, Whole = {}) { return _mm256_loadu_ps(at); }
inline void store(float* at, Floats x, Whole = {}) { _mm256_storeu_ps(at, x); }
inline Floats kept(Floats x, Whole) { return x; }
inline Ints load_words(const void* at, Whole = {}) { return _mm256_loadu_si256(static_cast<const __m256i*>(at)); }
inline void store_words(void* at, Ints x) { _mm256_storeu_si256(static_cast<__m256i*>(at), x); }
inline Floats as_floats(Ints x) { return _mm256_castsi256_ps(x); }
inline Floats to_floats(Ints x) { return _mm256_cvtepi32_ps(x); }

inline Floats fused(Floats a, Floats b, Floats c) { return _mm256_fmadd_ps(a, b, c); }  // a * b + c
inline Floats larger(Floats a, Floats b) { return _mm256_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm256_min_ps(a, b); }
inline Floats root(Floats x) { return _mm256_sqrt_ps(x); }
inline Floats absolute(Floats x) { return _mm256_andnot_ps(_mm256_set1_ps(-0.0f), x); }
inline Floats nearest_whole(Floats x) {
    return _mm256_round_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x 2^power, for a whole power of at most 0; zero below float32's least normal number.
inline Floats times_power(Floats x, Floats power) {
    const __m256i exponent = _mm256_cvtps_epi32(_mm256_max_ps(power, _mm256_set1_ps(-127.0f)));
    const __m256i bits = _mm256_slli_epi32(_mm256_add_epi32(exponent, _mm256_set1_epi32(127)), 23);
    return _mm256_mul_ps(x, _mm256_castsi256_ps(bits));
}
inline Floats where_negative(Floats x, Floats yes, Floats no) { return _mm256_blendv_ps(no, yes, x); }

// The halves of a vector joined lane by lane, until one lane is left.
template <typename Join>
inline float joined(Floats x, Join join) {
    __m128 y = join(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    y = join(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(join(y, _mm_movehdup_ps(y)));
}
inline float sum_of(Floats x) {
    return joined(x, [](__m128 a, __m128 b) { return _mm_add_ps(a, b); });
}
inline float largest_of(Floats x) {
    return joined(x, [](__m128 a, __m128 b) { return _mm_max_ps(a, b); });
}
inline float smallest_of(Floats x) {
    return joined(x, [](__m128 a, __m128 b) { return _mm_min_ps(a, b); });
}

// The four bytes at `word` in every lane.
inline Ints every_lane(const void* word) {
    int32_t value;
    std::memcpy(&value, word, sizeof value);
    return _mm256_set1_epi32(value);
}

// Rows become columns: first within each half of a vector, and then the halves.
inline void transpose(Ints (&rows)[kLanes]) {
    Ints pairs[kLanes];
    for (size_t i = 0; i < kLanes; i += 2) {
        pairs[i] = _mm256_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm256_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (size_t i = 0; i < kLanes; i += 4) {
        rows[i] = _mm256_unpacklo_epi64(pairs[i], pairs[i + 2]);
        rows[i + 1] = _mm256_unpackhi_epi64(pairs[i], pairs[i + 2]);
        rows[i + 2] = _mm256_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        rows[i + 3] = _mm256_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (size_t i = 0; i < 4; ++i) {
        const Ints above = rows[i], below = rows[i + 4];
        rows[i] = _mm256_permute2x128_si256(above, below, 0x20);
        rows[i + 4] = _mm256_permute2x128_si256(above, below, 0x31);
    }
}

// Rounded to the nearest whole number, half to even, `zero` added, kept within a byte.
inline void store_levels(uint8_t* to, Floats x, int zero, Whole) {
    const __m256i level = _mm256_add_epi32(_mm256_cvtps_epi32(x), _mm256_set1_epi32(zero));
    const __m256i kept = _mm256_min_epi32(_mm256_max_epi32(level, _mm256_setzero_si256()), _mm256_set1_epi32(255));
    const __m128i pairs = _mm_packus_epi32(_mm256_castsi256_si128(kept), _mm256_extracti128_si256(kept, 1));
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), _mm_packus_epi16(pairs, pairs));
}

// Two bfloat16 of a word as floats, the one of the lower address first, and floats rounded to what bfloat16 can hold.
inline Floats first_half(Ints words) { return as_floats(_mm256_slli_epi32(words, 16)); }
inline Floats second_half(Ints words) { return as_floats(_mm256_and_si256(words, _mm256_set1_epi32(-65536))); }
inline Floats as_bfloat16(Floats x) {
    const __m256i bits = _mm256_castps_si256(x);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    return second_half(up);
}

#ifdef __AVXVNNI__
// Sums of four products of bytes, unsigned by signed, in 32 bits.
inline Ints dot(Ints sum, Ints bytes, Ints weights) { return _mm256_dpbusd_avx_epi32(sum, bytes, weights); }
#else
// The same in three instructions, of which the first adds pairs in 16 bits: for pair-safe weights alone.
inline Ints dot(Ints sum, Ints bytes, Ints weights) {
    const __m256i pairs = _mm256_maddubs_epi16(bytes, weights);
    return _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}

// For all weights: the first and third of four bytes, and the second and fourth, each in 16 bits.
struct Halves {
    Ints even, odd;
};
inline Halves halves_of(Ints weights) {
    return {_mm256_srai_epi16(_mm256_slli_epi16(weights, 8), 8), _mm256_srai_epi16(weights, 8)};
}
inline Ints dot(Ints sum, Halves levels, Halves weights) {
    const __m256i even = _mm256_madd_epi16(levels.even, weights.even);
    return _mm256_add_epi32(sum, _mm256_add_epi32(even, _mm256_madd_epi16(levels.odd, weights.odd)));
}
#endif

}  // namespace stcompile::STCOMPILE_GENERATION
