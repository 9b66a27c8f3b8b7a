// Vectors of sixteen numbers: AVX-512 (F, BW, DQ, VL, VNNI), with BF16 where the unit is compiled for it.

#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../contract.h"

namespace stcompile::STCOMPILE_GENERATION {

using Floats = __m512;
using Ints = __m512i;

constexpr size_t kLanes = 16;
constexpr size_t kVectors = 4;  // side by side in a tile: with 6 rows, 24 of 32 registers are sums
constexpr int kTileRows = 6;

inline Floats all(float x) { return _mm512_set1_ps(x); }
inline Floats load(const float* at, Whole = {}) { return _mm512_loadu_ps(at); }
inline Floats load(const float* at, Half) { return _mm512_maskz_loadu_ps(0xff, at); }
inline void store(float* at, Floats x, Whole = {}) { _mm512_storeu_ps(at, x); }
inline void store(float* at, Floats x, Half) { _mm512_mask_storeu_ps(at, 0xff, x); }
inline Floats kept(Floats x, Whole) { return x; }
inline Floats kept(Floats x, Half) { return _mm512_maskz_mov_ps(0xff, x); }
inline Ints load_words(const void* at, Whole = {}) { return _mm512_loadu_si512(at); }
inline Ints load_words(const void* at, Half) { return _mm512_maskz_loadu_epi32(0xff, at); }
inline void store_words(void* at, Ints x) { _mm512_storeu_si512(at, x); }
inline Floats as_floats(Ints x) { return _mm512_castsi512_ps(x); }
inline Floats to_floats(Ints x) { return _mm512_cvtepi32_ps(x); }

inline Floats fused(Floats a, Floats b, Floats c) { return _mm512_fmadd_ps(a, b, c); }  // a * b + c
inline Floats larger(Floats a, Floats b) { return _mm512_max_ps(a, b); }
inline Floats smaller(Floats a, Floats b) { return _mm512_min_ps(a, b); }
inline Floats root(Floats x) { return _mm512_sqrt_ps(x); }
inline Floats absolute(Floats x) { return _mm512_abs_ps(x); }
inline Floats nearest_whole(Floats x) {
    return _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}
// x 2^power, for a whole power of at most 0.
inline Floats times_power(Floats x, Floats power) { return _mm512_scalef_ps(x, power); }
inline Floats where_negative(Floats x, Floats yes, Floats no) {
    return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ), yes, no);
}
inline float sum_of(Floats x) { return _mm512_reduce_add_ps(x); }
inline float largest_of(Floats x) { return _mm512_reduce_max_ps(x); }
inline float smallest_of(Floats x) { return _mm512_reduce_min_ps(x); }

// The four bytes at `word` in every lane.
inline Ints every_lane(const void* word) {
    int32_t value;
    std::memcpy(&value, word, sizeof value);
    return _mm512_set1_epi32(value);
}

// Rows become columns: first within each quarter of a vector, and then the quarters.
inline void transpose(Ints (&rows)[kLanes]) {
    Ints pairs[kLanes];
    for (size_t i = 0; i < kLanes; i += 2) {
        pairs[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
        pairs[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
    }
    for (size_t i = 0; i < kLanes; i += 4) {
        rows[i] = _mm512_unpacklo_epi64(pairs[i], pairs[i + 2]);
        rows[i + 1] = _mm512_unpackhi_epi64(pairs[i], pairs[i + 2]);
        rows[i + 2] = _mm512_unpacklo_epi64(pairs[i + 1], pairs[i + 3]);
        rows[i + 3] = _mm512_unpackhi_epi64(pairs[i + 1], pairs[i + 3]);
    }
    for (size_t i = 0; i < 4; ++i) {
        const Ints even = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0x88);
        const Ints odd = _mm512_shuffle_i32x4(rows[i], rows[i + 4], 0xdd);
        const Ints even_below = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0x88);
        const Ints odd_below = _mm512_shuffle_i32x4(rows[i + 8], rows[i + 12], 0xdd);
        rows[i] = _mm512_shuffle_i32x4(even, even_below, 0x88);
        rows[i + 4] = _mm512_shuffle_i32x4(odd, odd_below, 0x88);
        rows[i + 8] = _mm512_shuffle_i32x4(even, even_below, 0xdd);
        rows[i + 12] = _mm512_shuffle_i32x4(odd, odd_below, 0xdd);
    }
}

// Rounded to the nearest whole number, half to even, `zero` added, kept within a byte.
inline __m128i as_levels(Floats x, int zero) {
    const __m512i level = _mm512_add_epi32(_mm512_cvtps_epi32(x), _mm512_set1_epi32(zero));
    return _mm512_cvtusepi32_epi8(_mm512_max_epi32(level, _mm512_setzero_si512()));
}
inline void store_levels(uint8_t* to, Floats x, int zero, Whole) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), as_levels(x, zero));
}
inline void store_levels(uint8_t* to, Floats x, int zero, Half) {
    _mm_storel_epi64(reinterpret_cast<__m128i*>(to), as_levels(x, zero));
}

// Two bfloat16 of a word as floats, the one of the lower address first, and floats rounded to what bfloat16 can hold.
inline Floats first_half(Ints words) { return as_floats(_mm512_slli_epi32(words, 16)); }
inline Floats second_half(Ints words) { return as_floats(_mm512_and_si512(words, _mm512_set1_epi32(-65536))); }
inline Floats as_bfloat16(Floats x) {
    const __m512i bits = _mm512_castps_si512(x);
    const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    return second_half(up);
}

// Sums of four products of bytes, unsigned by signed, in 32 bits.
inline Ints dot(Ints sum, Ints bytes, Ints weights) { return _mm512_dpbusd_epi32(sum, bytes, weights); }

#ifdef __AVX512BF16__
#define STCOMPILE_HAS_BFLOAT16

inline Floats dot_bfloat16(Floats sum, Ints a, Ints b) { return _mm512_dpbf16_ps(sum, (__m512bh)a, (__m512bh)b); }
inline void store(uint16_t* to, Floats x, Whole = {}) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x));
}
inline void store(uint16_t* to, Floats x, Half) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm256_castsi256_si128((__m256i)_mm512_cvtneps_pbh(x)));
}
// Numbers of two rows beside each other, in words; zeros for a row that is null.
inline Ints beside(const uint16_t* first, const uint16_t* second) {
    const auto row = [](const uint16_t* at) {
        return at == nullptr ? _mm512_setzero_si512()
                             : _mm512_cvtepu16_epi32(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(at)));
    };
    return _mm512_or_si512(row(first), _mm512_slli_epi32(row(second), 16));
}
#endif

}  // namespace stcompile::STCOMPILE_GENERATION
