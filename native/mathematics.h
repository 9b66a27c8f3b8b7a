// Rows of vectors of any width, polynomials and exponentials.

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

// The hyperbolic tangent as a ratio of polynomials, as Eigen and ONNX Runtime have it: absolute and relative error 3e-7.
inline Floats tanh(Floats x) {
    static constexpr float above[] = {-2.76076847742355e-16f, 2.00018790482477e-13f, -8.60467152213735e-11f,
                                      5.12229709037114e-08f,  1.48572235717979e-05f, 6.37261928875436e-04f,
                                      4.89352455891786e-03f};
    static constexpr float below[] = {
        1.19825839466702e-06f, 1.18534705686654e-04f, 2.26843463243900e-03f, 4.89352518554385e-03f};
    const Floats limit = all(7.9053111f);  // from here on it is 1 in float32
    const Floats near = larger(smaller(x, limit), all(0.0f) - limit), square = near * near;
    return near * polynomial(square, above) / polynomial(square, below);
}

}  // namespace stcompile::STCOMPILE_GENERATION
