// The formats that layers multiply in: how rows are brought into them, and how a word of them is multiplied and added.

#pragma once

#include "activations.h"

namespace stcompile::STCOMPILE_GENERATION {

constexpr float kLog2E = 1.44269504f;

// Attention in float32, and the GELU and exponential that go with it: to float32's own precision, or to what is lost
// below the rounding to 8 bits or bfloat16.
template <bool exact>
struct Single {
    using Element = float;
    using Sum = Floats;
    using Column = Floats;
    static constexpr size_t kWord = 1;

    static Column word(const float* at) { return as_floats(every_lane(at)); }
    static Column column(const void* at) { return as_floats(load_words(at)); }
    static Sum add(Sum sum, Column row, Column column) { return fused(row, column, sum); }
    static Ints beside(const float* at, size_t, size_t left) { return left > 0 ? load_words(at) : Ints{}; }
    static Floats exp2(Floats x) { return exact ? exp2_of_negative_exactly(x) : exp2_of_negative(x); }
    static Floats gelu(Floats x) {
        if constexpr (exact) return gelu_exactly(x);
        return STCOMPILE_GENERATION::gelu(x);
    }
};

// What formats without scales have in common: sums in float32 that begin with the bias.
template <typename Attention>
struct Floating {
    using Sum = Floats;
    using InAttention = Attention;
    static constexpr bool kReadsTwice = false;

    template <typename Lanes>
    static Sum start(const Linear& layer, size_t column, Lanes lanes) {
        return load(layer.bias + column, lanes);
    }
    template <typename Lanes>
    static Floats finish(Sum sum, float, const Linear&, size_t, Lanes) {
        return sum;
    }
};

// Everything in float32.
struct Float32 : Floating<Single<true>>, Single<true> {
    using Sum = Floats;

    template <typename Prepare>
    static float take(const float*, size_t width, const Linear&, float* to, Prepare prepare) {
        each_vector(width, [&](size_t i, auto lanes) { store(to + i, prepare(i, lanes), lanes); });
        return 1.0f;
    }
};

// Weights in bfloat16, activations rounded to it, and all computed in float32: for CPUs that do not multiply bfloat16.
struct WidenedBfloat16 : Floating<Single<false>> {
    struct Column {
        Floats first, second;
    };
    using Element = float;
    static constexpr size_t kWord = 2;

    template <typename Prepare>
    static float take(const float*, size_t width, const Linear&, float* to, Prepare prepare) {
        each_vector(width, [&](size_t i, auto lanes) { store(to + i, as_bfloat16(prepare(i, lanes)), lanes); });
        return 1.0f;
    }
    static Column word(const float* at) { return {as_floats(every_lane(at)), as_floats(every_lane(at + 1))}; }
    static Column column(const void* at) {
        const Ints words = load_words(at);
        return {first_half(words), second_half(words)};
    }
    static Sum add(Sum sum, Column row, Column column) {
        return fused(row.second, column.second, fused(row.first, column.first, sum));
    }
};

#ifdef STCOMPILE_HAS_BFLOAT16
// Activations rounded to bfloat16; sums stay float32.
struct Bfloat16 : Floating<Bfloat16> {
    using Element = uint16_t;
    using Column = Ints;
    static constexpr size_t kWord = 2;

    template <typename Prepare>
    static float take(const float*, size_t width, const Linear&, uint16_t* to, Prepare prepare) {
        each_vector(width, [&](size_t i, auto lanes) { store(to + i, prepare(i, lanes), lanes); });
        return 1.0f;
    }
    static Column word(const uint16_t* at) { return every_lane(at); }
    static Column column(const void* at) { return load_words(at); }
    static Sum add(Sum sum, Column row, Column column) { return dot_bfloat16(sum, row, column); }
    // The words of one token and the next; zeros for tokens from `left` on.
    static Ints beside(const uint16_t* at, size_t stride, size_t left) {
        return STCOMPILE_GENERATION::beside(left > 0 ? at : nullptr, left > 1 ? at + stride : nullptr);
    }
    static Floats exp2(Floats x) { return exp2_of_negative(x); }
    static Floats gelu(Floats x) { return STCOMPILE_GENERATION::gelu(x); }
};
#endif

// Activations as 8-bit levels, one scale a row; every generation rounds to the same levels.
template <typename Attention>
struct Int8 {
    using Element = uint8_t;
    using Sum = Ints;
    using Column = Ints;
    using InAttention = Attention;
    static constexpr size_t kWord = 4;
    static constexpr bool kReadsTwice = true;  // for the largest number, and to round

    // Rounds one row; `prepare(i, lanes)` gives its numbers from i on and leaves them in `from`. Returns the row's scale.
    template <typename Prepare>
    static float take(const float* from, size_t width, const Linear& layer, uint8_t* to, Prepare prepare) {
        // What is no number is passed over by a comparison, and no level says so: times zero it stays what it is, makes
        // the scale one like it, and with it the whole row, as of a product in floating point.
        Floats largest = all(0.0f), least = all(0.0f), zeros = all(0.0f);
        each_vector(width, [&](size_t i, auto lanes) {
            const Floats x = prepare(i, lanes) * load(layer.smooth + i, lanes);
            largest = larger(largest, x);
            least = smaller(least, x);
            zeros = fused(x, all(0.0f), zeros);
        });
        float scale = larger(layer.smallest, largest_of(largest) / (255.0f - layer.zero_point));
        // Where the middle is not the zero point, `smallest` covers what values may go down to.
        if (layer.zero_point == kMiddle) scale = larger(scale, -smallest_of(least) / kMiddle);
        scale += sum_of(zeros);
        const Floats inverse = all(1.0f / scale);
        each_vector(width, [&](size_t i, auto lanes) {
            const Floats x = load(from + i, lanes) * load(layer.smooth + i, lanes);
            store_levels(to + i, x * inverse, layer.zero_point, lanes);
        });
        return scale;
    }
    static Column word(const void* at) { return every_lane(at); }
    static Column column(const void* at) { return load_words(at); }
    template <typename Lanes>
    static Sum start(const Linear& layer, size_t column, Lanes) {
        return load_words(layer.offset + column);
    }
    static Sum add(Sum sum, Column row, Column column) { return dot(sum, row, column); }
    template <typename Lanes>
    static Floats finish(Sum sum, float scale, const Linear& layer, size_t column, Lanes lanes) {
        const Floats factor = all(scale) * load(layer.scale + column, lanes);
        return fused(to_floats(sum), factor, load(layer.bias + column, lanes));
    }
};

// A row of float32 as the input of a layer.
template <typename Number>
inline float take(const float* row, const Linear& layer, typename Number::Element* to) {
    return Number::take(row, layer.in, layer, to, [&](size_t i, auto lanes) { return load(row + i, lanes); });
}

// A row that is made piece by piece as the input of a layer: `value(i, lanes)` gives its numbers from i on. It stands in
// `row` then, where the format reads it twice.
template <typename Number, typename Value>
inline float take_made(float* row, const Linear& layer, typename Number::Element* to, const Value& value) {
    return Number::take(row, layer.in, layer, to, [&](size_t i, auto lanes) {
        const Floats made = value(i, lanes);
        if constexpr (Number::kReadsTwice) store(row + i, made, lanes);
        return made;
    });
}

// A row of `up` through the activation, and times its factors where the layer is gated, as the input of `down`. Not where
// the row is multiplied: its constants would push the sums out of the registers.
template <typename Number>
inline float take_activated(
    float* row, Activation activation, bool gated, const Linear& layer, typename Number::Element* to) {
    float scale = 1.0f;
    with_function(activation, [&](auto function) {
        const auto value = [&](size_t i, auto lanes) {
            return decltype(function)::template of<typename Number::InAttention>(load(row + i, lanes));
        };
        const float* factor = row + layer.in;
        scale = gated ? take_made<Number>(
                            row, layer, to,
                            [&](size_t i, auto lanes) { return value(i, lanes) * load(factor + i, lanes); })
                      : take_made<Number>(row, layer, to, value);
    });
    return scale;
}

}  // namespace stcompile::STCOMPILE_GENERATION
