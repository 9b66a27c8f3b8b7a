// Normalizations of a row: what is taken from its numbers and what they are multiplied by, and each number with it.

#pragma once

#include "mathematics.h"

namespace stcompile::STCOMPILE_GENERATION {

inline Floats inverse_root(float mean_square, float epsilon) { return all(1.0f) / root(all(mean_square + epsilon)); }

// 1 / sqrt(mean(x^2) + epsilon): RMSNorm's scale (Zhang & Sennrich, 2019).
inline Floats rms_scale(const float* row, size_t width, float epsilon) {
    Floats squares = all(0.0f);
    each_vector(width, [&](size_t i, auto lanes) {
        const Floats x = load(row + i, lanes);
        squares = fused(x, x, squares);
    });
    return inverse_root(sum_of(squares) / static_cast<float>(width), epsilon);
}

// The same of a row's distance from its mean: layer normalization's (Ba et al., 2016).
inline Floats layer_scale(const float* row, size_t width, float epsilon, Floats& mean) {
    Floats sum = all(0.0f);
    each_vector(width, [&](size_t i, auto lanes) { sum = sum + load(row + i, lanes); });
    const float count = static_cast<float>(width);
    mean = all(sum_of(sum) / count);
    Floats squares = all(0.0f);
    each_vector(width, [&](size_t i, auto lanes) {
        const Floats away = kept(load(row + i, lanes) - mean, lanes);
        squares = fused(away, away, squares);
    });
    return inverse_root(sum_of(squares) / count, epsilon);
}

// One row, normalized: `at` gives its numbers from i on.
class Normal {
  public:
    Normal(const float* row, size_t width, const Norm& norm, Normalization kind)
        : row_(row), gain_(norm.gain), shift_(norm.shift), mean_(all(0.0f)) {
        scale_ = kind == Normalization::kRms ? rms_scale(row, width, norm.epsilon)
                                             : layer_scale(row, width, norm.epsilon, mean_);
    }

    template <typename Lanes>
    Floats at(size_t i, Lanes lanes) const {
        const Floats normal = (load(row_ + i, lanes) - mean_) * scale_;
        return fused(normal, load(gain_ + i, lanes), load(shift_ + i, lanes));
    }

  private:
    const float *row_, *gain_, *shift_;
    Floats mean_, scale_;
};

}  // namespace stcompile::STCOMPILE_GENERATION
