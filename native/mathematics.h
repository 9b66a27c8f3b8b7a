// Exponentials, GELU and layer normalization on vectors of any width.

#pragma once

#include "contract.h"

namespace stcompile::STCOMPILE_GENERATION {

inline float larger(float a, float b) { return a < b ? b : a; }
inline size_t smaller(size_t a, size_t b) { return b < a ? b : a; }
inline size_t rounded_up(size_t x, size_t multiple) { return (x + multiple - 1) / multiple * multiple; }

// Calls run(i, lanes) for each vector of `width` numbers, a multiple of 8.
template <typename Run>
inline __attribute__((always_inline)) void each_vector(size_t width, const Run& run) {
    size_t i = 0;
    for (; i + kLanes <= width; i += kLanes) run(i, Whole{});
    if constexpr (kLanes > kSizes) {
        if (i < width) run(i, Half{});
    }
}

// The same for a vector at `i` that may lie across the last number of `width`, or behind it.
template <typename Run>
inline __attribute__((always_inline)) void within(size_t width, size_t i, const Run& run) {
    if (i + kLanes <= width) return run(Whole{});
    if constexpr (kLanes > kSizes) {
        if (i < width) run(Half{});
    }
}

// A polynomial by Horner's rule, its factors from the highest power down.
template <size_t count>
inline Floats polynomial(Floats x, const float (&factors)[count]) {
    Floats y = all(factors[0]);
#pragma GCC unroll 16
    for (size_t i = 1; i < count; ++i) y = fused(y, x, all(factors[i]));
    return y;
}

// 2^x for x <= 0: the series of exp(x ln 2) around the nearest whole number.
template <size_t count>
inline Floats exp2_by_series(Floats x, const float (&factors)[count]) {
    const Floats whole = nearest_whole(x);
    return times_power(polynomial(x - whole, factors), whole);
}

// Relative error 4e-5, a hundredth of a bfloat16's rounding.
inline Floats exp2_of_negative(Floats x) {
    static constexpr float factors[] = {0.00961813f, 0.05550411f, 0.24022651f, 0.69314718f, 1.0f};
    return exp2_by_series(x, factors);
}

// The same to float32's own precision: two more terms.
inline Floats exp2_of_negative_exactly(Floats x) {
    static constexpr float factors[] = {
        0.000154035304f, 0.00133335581f, 0.00961812911f, 0.0555041087f, 0.240226507f, 0.693147181f, 1.0f};
    return exp2_by_series(x, factors);
}

// x Phi(x), the GELU of Hendrycks & Gimpel (2016) with the error function; absolute error 4e-5 up to |x| = 7. A minimax
// polynomial of x (Phi(x) - 1/2), odd in x, over [-4.4, 4.4]; beyond, Phi is 0 or 1 to 5e-6.
inline Floats gelu(Floats x) {
    static constexpr float factors[] = {
        3.572635590143314e-11f, -3.756635447160761e-09f,  1.7417103492789465e-07f,
        -4.726407041744096e-06f, 8.430882007814944e-05f,  -0.0010550862643867731f,
        0.009643333032727242f,  -0.06607690453529358f,    0.3987618684768677f};
    const Floats limit = all(4.4f);
    const Floats near = larger(smaller(x, limit), all(0.0f) - limit);
    const Floats y = polynomial(near * near, factors);
    return x * fused(y, near, all(0.5f));
}

// The same to float32's own precision. Phi by formula 7.1.26 of Abramowitz & Stegun (1964), absolute error 1e-7.
inline Floats gelu_exactly(Floats x) {
    static constexpr float factors[] = {1.061405429f, -1.453152027f, 1.421413741f, -0.284496736f, 0.254829592f};
    const Floats z = absolute(x) * all(0.707106781f);
    const Floats one = all(1.0f);
    const Floats t = one / fused(z, all(0.3275911f), one);
    const Floats y = polynomial(t, factors);
    const Floats square = z * z * all(-1.44269504f);
    // Half of 1 - erf(z): what Phi lacks to 1 where x is positive, and what it is where x is negative.
    const Floats tail = y * t * all(0.5f) * exp2_of_negative_exactly(square);
    return x * where_negative(x, tail, one - tail);
}

// Layer normalization (Ba et al., 2016) of one row in place.
inline void layer_norm(float* row, size_t width, const float* gain, const float* bias, float epsilon) {
    Floats sum = all(0.0f);
    each_vector(width, [&](size_t i, auto lanes) { sum = sum + load(row + i, lanes); });
    const float count = static_cast<float>(width);
    const Floats mean = all(sum_of(sum) / count);
    Floats squares = all(0.0f);
    each_vector(width, [&](size_t i, auto lanes) {
        const Floats away = kept(load(row + i, lanes) - mean, lanes);
        squares = fused(away, away, squares);
    });
    const float variance = sum_of(squares) / count;
    const Floats scale = all(1.0f) / root(all(variance + epsilon));
    each_vector(width, [&](size_t i, auto lanes) {
        const Floats normal = (load(row + i, lanes) - mean) * scale;
        store(row + i, fused(normal, load(gain + i, lanes), load(bias + i, lanes)), lanes);
    });
}

}  // namespace stcompile::STCOMPILE_GENERATION
