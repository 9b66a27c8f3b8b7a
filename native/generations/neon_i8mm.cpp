// ARMv8.6: products of two rows with two columns of bytes in one instruction. Graviton 3, Apple's M2, and later.

#define STCOMPILE_GENERATION neon_i8mm
#include "../simd/neon.h"

#include "../encoder_layer.h"

namespace stcompile::neon_i8mm {

using Eight = Int8<Single<false>>;

// Two rows of eight bytes with two columns of as many: [row 0 column 0, row 0 column 1, row 1 column 0, row 1 column 1].
inline Ints two_by_two(Ints sum, Ints rows, Ints columns) {
    __asm__(".arch armv8.2-a+i8mm\n\tsmmla %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(rows), "w"(columns));
    return sum;
}
inline Ints firsts(Ints a, Ints b) { return vcombine_s32(vget_low_s32(a), vget_low_s32(b)); }
inline Ints seconds(Ints a, Ints b) { return vcombine_s32(vget_high_s32(a), vget_high_s32(b)); }

// As `tile`, of pairs of rows: the second one of the last pair may be any memory of the block.
template <size_t pairs>
__attribute__((noinline)) void tile_of_pairs(
    const uint8_t* x, size_t stride, const Linear& layer, size_t column, Ints* to) {
    Ints first[kVectors], sum[pairs][2 * kVectors];
    begin<Eight, kTileColumns>(layer, column, first);
    for (size_t p = 0; p < pairs; ++p) {
        for (size_t v = 0; v < kVectors; ++v) {
            sum[p][2 * v] = firsts(first[v], first[v]);
            sum[p][2 * v + 1] = seconds(first[v], first[v]);
        }
    }
    const size_t words = layer.in / Eight::kWord;  // an even number
    const auto* panel =
        static_cast<const int32_t*>(layer.weights) + column / kPanel * kPanel * words + column % kPanel;
    for (size_t k = 0; k < words; k += 2, panel += 2 * kPanel, x += 2 * Eight::kWord) {
        Ints rows[pairs];
#pragma GCC unroll 3
        for (size_t p = 0; p < pairs; ++p) {
            const auto row = [&](size_t r) { return vreinterpret_s32_u8(vld1_u8(x + r * stride)); };
            rows[p] = vcombine_s32(row(2 * p), row(2 * p + 1));
        }
#pragma GCC unroll 4
        for (size_t v = 0; v < kVectors; ++v) {
            const Ints words_1 = load_words(panel + v * kLanes), words_2 = load_words(panel + kPanel + v * kLanes);
            const Ints left = vzip1q_s32(words_1, words_2), right = vzip2q_s32(words_1, words_2);
#pragma GCC unroll 3
            for (size_t p = 0; p < pairs; ++p) {
                sum[p][2 * v] = two_by_two(sum[p][2 * v], rows[p], left);
                sum[p][2 * v + 1] = two_by_two(sum[p][2 * v + 1], rows[p], right);
            }
        }
    }
    for (size_t p = 0; p < pairs; ++p) {
        for (size_t v = 0; v < kVectors; ++v) {
            to[2 * p * kVectors + v] = firsts(sum[p][2 * v], sum[p][2 * v + 1]);
            to[(2 * p + 1) * kVectors + v] = seconds(sum[p][2 * v], sum[p][2 * v + 1]);
        }
    }
}

template <>
struct Product<Eight> {
    static constexpr Block kRows = kBlock<Eight>;
    static_assert(kRows.multiple % kTileRows == 0, "a block holds every pair");
    static size_t stride(size_t in) { return in; }
    static void fill_up(uint8_t*, size_t) {}

    template <typename Output>
    static void run(
        const uint8_t* x, const float* scales, size_t rows, const Linear& layer, const Output& output, Scratch&) {
        Ints sums[kTileRows * kVectors];
        for (size_t column = 0; column < layer.out; column += kTileColumns) {
            for (size_t row = 0; row < rows; row += kTileRows) {
                const size_t here = smaller(kTileRows, rows - row);
                const auto tile = here > 4 ? tile_of_pairs<3> : here > 2 ? tile_of_pairs<2> : tile_of_pairs<1>;
                tile(x + row * layer.in, layer.in, layer, column, sums);
                put_out<Eight, kTileColumns>(sums, row, here, scales, layer, column, output);
            }
        }
    }
};

extern const Generation generation;
const Generation generation{kDotProduct | kInt8Matrix, &EncoderLayer<Eight>::kSteps, nullptr, nullptr, levels_of};

}  // namespace stcompile::neon_i8mm
