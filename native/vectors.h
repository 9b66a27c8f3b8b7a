// Arithmetic on sixteen floats at a time.

#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace stcompile {

constexpr size_t kLanes = 16;

inline __m512 absolute(__m512 x) {
    return _mm512_castsi512_ps(_mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

// The first `count` lanes; all where there are more.
inline __mmask16 lanes_up_to(size_t count) {
    return count >= kLanes ? 0xffff : static_cast<__mmask16>((1u << count) - 1);
}

// Bits of two bfloat16 or four bytes, in every lane.
inline __m512i broadcast_word(const void* at) {
    int32_t word;
    std::memcpy(&word, at, sizeof word);
    return _mm512_set1_epi32(word);
}

// Sixteen floats rounded to bfloat16.
inline void store_bfloat16(uint16_t* to, __m512 x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(to), (__m256i)_mm512_cvtneps_pbh(x));
}

// A polynomial by Horner's rule, its factors from the highest power down.
template <size_t count>
inline __m512 polynomial(__m512 x, const float (&factors)[count]) {
    __m512 y = _mm512_set1_ps(factors[0]);
#pragma GCC unroll 16
    for (size_t i = 1; i < count; ++i) y = _mm512_fmadd_ps(y, x, _mm512_set1_ps(factors[i]));
    return y;
}

// 2^x for x <= 0: the series of exp(x ln 2) around the nearest whole number.
template <size_t count>
inline __m512 exp2_by_series(__m512 x, const float (&factors)[count]) {
    const __m512 whole = _mm512_roundscale_ps(x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_scalef_ps(polynomial(_mm512_sub_ps(x, whole), factors), whole);
}

// Relative error 4e-5, a hundredth of a bfloat16's rounding.
inline __m512 exp2_of_negative(__m512 x) {
    static constexpr float factors[] = {0.00961813f, 0.05550411f, 0.24022651f, 0.69314718f, 1.0f};
    return exp2_by_series(x, factors);
}

// The same to float32's own precision: two more terms.
inline __m512 exp2_of_negative_exactly(__m512 x) {
    static constexpr float factors[] = {
        0.000154035304f, 0.00133335581f, 0.00961812911f, 0.0555041087f, 0.240226507f, 0.693147181f, 1.0f};
    return exp2_by_series(x, factors);
}

// x Phi(x), the GELU of Hendrycks & Gimpel (2016) with the error function; absolute error 4e-5 up to |x| = 7. A minimax
// polynomial of x (Phi(x) - 1/2), odd in x, over [-4.4, 4.4]; beyond, Phi is 0 or 1 to 5e-6.
inline __m512 gelu(__m512 x) {
    static constexpr float factors[] = {
        3.572635590143314e-11f, -3.756635447160761e-09f,  1.7417103492789465e-07f,
        -4.726407041744096e-06f, 8.430882007814944e-05f,  -0.0010550862643867731f,
        0.009643333032727242f,  -0.06607690453529358f,    0.3987618684768677f};
    const __m512 limit = _mm512_set1_ps(4.4f);
    const __m512 near = _mm512_max_ps(_mm512_min_ps(x, limit), _mm512_sub_ps(_mm512_setzero_ps(), limit));
    const __m512 y = polynomial(_mm512_mul_ps(near, near), factors);
    return _mm512_mul_ps(x, _mm512_fmadd_ps(y, near, _mm512_set1_ps(0.5f)));
}

// The same to float32's own precision. Phi by formula 7.1.26 of Abramowitz & Stegun (1964), absolute error 1e-7.
inline __m512 gelu_exactly(__m512 x) {
    static constexpr float factors[] = {1.061405429f, -1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
    const __m512 z = _mm512_mul_ps(absolute(x), _mm512_set1_ps(0.707106781f));
    const __m512 one = _mm512_set1_ps(1.0f);
    const __m512 t = _mm512_div_ps(one, _mm512_fmadd_ps(z, _mm512_set1_ps(0.3275911f), one));
    const __m512 y = polynomial(t, factors);
    const __m512 square = _mm512_mul_ps(_mm512_mul_ps(z, z), _mm512_set1_ps(-1.44269504f));
    // Half of 1 - erf(z): what Phi lacks to 1 where x is positive, and what it is where x is negative.
    const __m512 tail = _mm512_mul_ps(
        _mm512_mul_ps(_mm512_mul_ps(y, t), _mm512_set1_ps(0.5f)), exp2_of_negative_exactly(square));
    const __mmask16 positive = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_GE_OQ);
    return _mm512_mul_ps(x, _mm512_mask_sub_ps(tail, positive, one, tail));
}

// Layer normalization (Ba et al., 2016) of one row in place; width a multiple of 16.
inline void layer_norm(float* row, size_t width, const float* gain, const float* bias, float epsilon) {
    __m512 sum = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += kLanes) sum = _mm512_add_ps(sum, _mm512_loadu_ps(row + i));
    const float count = static_cast<float>(width);
    const __m512 mean = _mm512_set1_ps(_mm512_reduce_add_ps(sum) / count);
    __m512 squares = _mm512_setzero_ps();
    for (size_t i = 0; i < width; i += kLanes) {
        const __m512 away = _mm512_sub_ps(_mm512_loadu_ps(row + i), mean);
        squares = _mm512_fmadd_ps(away, away, squares);
    }
    const float variance = _mm512_reduce_add_ps(squares) / count;
    const __m512 scale = _mm512_div_ps(_mm512_set1_ps(1.0f), _mm512_sqrt_ps(_mm512_set1_ps(variance + epsilon)));
    for (size_t i = 0; i < width; i += kLanes) {
        const __m512 normal = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(row + i), mean), scale);
        _mm512_storeu_ps(row + i, _mm512_fmadd_ps(normal, _mm512_loadu_ps(gain + i), _mm512_loadu_ps(bias + i)));
    }
}

}  // namespace stcompile
