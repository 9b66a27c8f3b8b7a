// Haswell to Zen 3, and whatever has AVX2 and FMA and nothing wider.

#define STCOMPILE_GENERATION avx2
#include "../simd/avx2.h"

#include "../encoder_layer.h"

namespace stcompile::avx2 {

using Eight = Int8<Single<false>>;

// Weights that are not pair-safe, in 16 bits: a word is its first and third level, and then its second and fourth.
struct Sixteen : Eight {
    using Element = uint16_t;
    using Column = Halves;

    static Column word(const uint16_t* at) { return {every_lane(at), every_lane(at + 2)}; }
    static Column column(const void* at) { return halves_of(load_words(at)); }
    static Sum add(Sum sum, Column row, Column column) { return dot(sum, row, column); }
};

template <>
struct Product<Eight> {
    static constexpr Block kRows = kBlock<Eight>;
    static size_t stride(size_t in) { return in; }
    static void fill_up(uint8_t*, size_t) {}

    template <typename Output>
    static void run(
        const uint8_t* x, const float* scales, size_t rows, const Linear& layer, const Output& output,
        Scratch& memory) {
        if (layer.pair_safe) return multiply<Eight>(x, layer.in, scales, rows, layer, output);
        auto* wide = memory_of<uint16_t>(memory, kWideLevels, rows * layer.in);
        for (size_t i = 0; i < rows * layer.in; i += 4) {
            for (size_t byte = 0; byte < 4; ++byte) wide[i + byte % 2 * 2 + byte / 2] = x[i + byte];
        }
        multiply<Sixteen>(wide, layer.in, scales, rows, layer, output);
    }
};

extern const Generation generation;
const Generation generation{
    kNeedsAvx2, &EncoderLayer<Eight>::kSteps, &EncoderLayer<WidenedBfloat16>::kSteps, &EncoderLayer<Float32>::kSteps,
    levels_of};

}  // namespace stcompile::avx2
