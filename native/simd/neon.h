// Vectors of four numbers: NEON with the dot product of ARMv8.2.

#pragma once

#include <arm_neon.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "../contract.h"

namespace stcompile::STCOMPILE_GENERATION {

using Floats = float32x4_t;
using Ints = int32x4_t;

constexpr size_t kLanes = 4;
constexpr size_t kVectors = 4;  // side by side in a tile: with 6 rows, 24 of 32 registers are sums
constexpr int kTileRows = 6;

inline Floats all(float x) { return vdupq_n_f32(x); }
inline Floats load(const float* at, Whole = {}) { return vld1q_f32(at); }
inline void store(float* at, Floats x, Whole = {}) { vst1q_f32(at, x); }
inline Floats kept(Floats x, Whole) { return x; }
inline Ints load_words(const void* at, Whole = {}) { return vld1q_s32(static_cast<const int32_t*>(at)); }
inline void store_words(void* at, Ints x) { vst1q_s32(static_cast<int32_t*>(at), x); }
inline Floats as_floats(Ints x) { return vreinterpretq_f32_s32(x); }
inline Floats to_floats(Ints x) { return vcvtq_f32_s32(x); }

inline Floats fused(Floats a, Floats b, Floats c) { return vfmaq_f32(c, a, b); }  // a * b + c
inline Floats larger(Floats a, Floats b) { return vmaxq_f32(a, b); }
inline Floats smaller(Floats a, Floats b) { return vminq_f32(a, b); }
inline Floats root(Floats x) { return vsqrtq_f32(x); }
inline Floats absolute(Floats x) { return vabsq_f32(x); }
inline Floats nearest_whole(Floats x) { return vrndnq_f32(x); }
// x 2^power, for a whole power of at most 0; zero below float32's least normal number.
inline Floats times_power(Floats x, Floats power) {
    const int32x4_t exponent = vcvtnq_s32_f32(vmaxq_f32(power, vdupq_n_f32(-127.0f)));
    return x * as_floats(vshlq_n_s32(exponent + vdupq_n_s32(127), 23));
}
inline Floats where_negative(Floats x, Floats yes, Floats no) { return vbslq_f32(vcltzq_f32(x), yes, no); }
inline float sum_of(Floats x) { return vaddvq_f32(x); }
inline float largest_of(Floats x) { return vmaxvq_f32(x); }
inline float smallest_of(Floats x) { return vminvq_f32(x); }

// The four bytes at `word` in every lane.
inline Ints every_lane(const void* word) { return vld1q_dup_s32(static_cast<const int32_t*>(word)); }

// Rows become columns.
inline void transpose(Ints (&rows)[kLanes]) {
    const auto longs = [](Ints x) { return vreinterpretq_s64_s32(x); };
    const auto words = [](int64x2_t x) { return vreinterpretq_s32_s64(x); };
    const Ints even = vtrn1q_s32(rows[0], rows[1]), odd = vtrn2q_s32(rows[0], rows[1]);
    const Ints even_below = vtrn1q_s32(rows[2], rows[3]), odd_below = vtrn2q_s32(rows[2], rows[3]);
    rows[0] = words(vtrn1q_s64(longs(even), longs(even_below)));
    rows[1] = words(vtrn1q_s64(longs(odd), longs(odd_below)));
    rows[2] = words(vtrn2q_s64(longs(even), longs(even_below)));
    rows[3] = words(vtrn2q_s64(longs(odd), longs(odd_below)));
}

// Rounded to the nearest whole number, half to even, `zero` added, kept within a byte; what is taken from it is.
inline void store_levels(uint8_t* to, Floats x, int zero, Whole) {
    const int32x4_t level = vqaddq_s32(vcvtnq_s32_f32(x), vdupq_n_s32(zero - kTaken));
    const int16x4_t half = vqmovn_s32(level);
    vst1_lane_s32(reinterpret_cast<int32_t*>(to), vreinterpret_s32_s8(vqmovn_s16(vcombine_s16(half, half))), 0);
}

// Two bfloat16 of a word as floats, the one of the lower address first, and floats rounded to what bfloat16 can hold.
inline Floats first_half(Ints words) { return as_floats(vshlq_n_s32(words, 16)); }
inline Floats second_half(Ints words) { return as_floats(vandq_s32(words, vdupq_n_s32(-65536))); }
inline Floats as_bfloat16(Floats x) {
    const uint32x4_t bits = vreinterpretq_u32_f32(x);
    const uint32x4_t odd = vandq_u32(vshrq_n_u32(bits, 16), vdupq_n_u32(1));
    return second_half(vreinterpretq_s32_u32(bits + odd + vdupq_n_u32(0x7fff)));
}

// Sums of four products of bytes in 32 bits, both signed. Not the intrinsic: compilers have no flag in common for it.
inline Ints dot(Ints sum, Ints bytes, Ints weights) {
    __asm__(".arch armv8.2-a+dotprod\n\tsdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(bytes), "w"(weights));
    return sum;
}

}  // namespace stcompile::STCOMPILE_GENERATION
