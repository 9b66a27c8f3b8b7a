// What stands between the two linear layers of a feed-forward network.

#pragma once

#include "mathematics.h"

namespace stcompile::STCOMPILE_GENERATION {

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

// 1 / (1 + 2^-x), by the exponential of a negative number alone: nothing overflows, and what is small stays exact.
template <typename Precision>
inline Floats sigmoid_of_power(Floats x) {
    const Floats one = all(1.0f);
    const Floats tail = Precision::exp2(larger(all(0.0f) - absolute(x), all(-200.0f)));
    return where_negative(x, tail, one) / (one + tail);
}

// The functions by name. A precision says what its exponential and its GELU are.
struct Gelu {
    template <typename Precision>
    static Floats of(Floats x) {
        return Precision::gelu(x);
    }
};

// x (1 + tanh(y)) / 2 with y = sqrt(2 / pi) (x + 0.044715 x^3) (Hendrycks & Gimpel, 2016), which is x sigmoid(2 y).
struct TanhGelu {
    template <typename Precision>
    static Floats of(Floats x) {
        const Floats factor = fused(x * x, all(0.102943240f), all(2.30220819f));  // 2 sqrt(2 / pi) log2(e)
        return x * sigmoid_of_power<Precision>(x * factor);
    }
};

// x sigmoid(x) (Elfwing et al., 2017).
struct Silu {
    template <typename Precision>
    static Floats of(Floats x) {
        return x * sigmoid_of_power<Precision>(x * all(1.44269504f));
    }
};

struct Relu {
    template <typename>
    static Floats of(Floats x) {
        return larger(x, all(0.0f));
    }
};

// Calls run(function): what differs is looked at once a row, not in its loop.
template <typename Run>
inline void with_function(Activation activation, const Run& run) {
    switch (activation) {
        case Activation::kGelu: return run(Gelu{});
        case Activation::kTanhGelu: return run(TanhGelu{});
        case Activation::kSilu: return run(Silu{});
        case Activation::kRelu: return run(Relu{});
    }
}

}  // namespace stcompile::STCOMPILE_GENERATION
