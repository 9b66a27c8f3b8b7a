// What becomes of each query and key before they are attended with: a norm of its own, and its rotation.

#pragma once

#include "linear.h"
#include "norms.h"

namespace stcompile::STCOMPILE_GENERATION {

// How the heads of one token turn: the cosines and sines of its position, (count) each.
struct Turn {
    const float *cosines, *sines;
    size_t count;  // at most half a head; none where nothing turns
};

// Rotary positions (Su et al., 2021) of a head whose halves of 2 * count numbers are turned in pairs, i and i + count;
// `at` gives its numbers.
template <typename At, typename Stored>
inline void turn_vectors(const At& at, size_t size, const Turn& turn, Stored* to) {
    each_vector(turn.count, [&](size_t i, auto lanes) {
        const Floats first = at(i, lanes), second = at(turn.count + i, lanes);
        const Floats cosine = load(turn.cosines + i, lanes), sine = load(turn.sines + i, lanes);
        store(to + i, first * cosine - second * sine, lanes);
        store(to + turn.count + i, second * cosine + first * sine, lanes);
    });
    const size_t still = 2 * turn.count;
    each_vector(size - still, [&](size_t i, auto lanes) { store(to + still + i, at(still + i, lanes), lanes); });
}

// The same in place where pairs fill no vectors.
inline void turn_numbers(float* x, const Turn& turn) {
    for (size_t i = 0; i < turn.count; ++i) {
        const float first = x[i], second = x[turn.count + i], cosine = turn.cosines[i], sine = turn.sines[i];
        x[i] = first * cosine - second * sine;
        x[turn.count + i] = second * cosine + first * sine;
    }
}

// One head, a multiple of 16 numbers, normalized where there is a gain, turned, and rounded to what attention reads.
template <typename Stored>
inline void prepare_head(float* x, size_t size, const float* gain, float epsilon, Turn turn, Stored* to) {
    const Floats scale = gain == nullptr ? all(1.0f) : rms_scale(x, size, epsilon);
    const auto plain = [&](size_t i, auto lanes) { return load(x + i, lanes); };
    const auto normal = [&](size_t i, auto lanes) { return load(x + i, lanes) * scale * load(gain + i, lanes); };
    if (turn.count % kSizes != 0) {
        if (gain != nullptr) each_vector(size, [&](size_t i, auto lanes) { store(x + i, normal(i, lanes), lanes); });
        turn_numbers(x, turn);
        return turn_vectors(plain, size, {nullptr, nullptr, 0}, to);
    }
    gain == nullptr ? turn_vectors(plain, size, turn, to) : turn_vectors(normal, size, turn, to);
}

// Where a product's rows of queries, keys and values go: the first `columns`, which are to be prepared, as they are.
template <typename Stored, size_t rows>
struct QueriesKeysValues {
    float* queries_keys[rows];
    Stored* all[rows];
    size_t columns;  // a multiple of 16

    template <typename Lanes>
    void put(size_t row, size_t at, Floats value, Lanes lanes) const {
        at < columns ? store(queries_keys[row] + at, value, lanes) : store(all[row] + at, value, lanes);
    }
};

}  // namespace stcompile::STCOMPILE_GENERATION
