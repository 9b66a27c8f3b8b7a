// Sapphire Rapids and later: tiles of bytes and of bfloat16.

#define STCOMPILE_GENERATION amx
#include "../simd/avx512.h"

#include "../simd/amx.h"

namespace stcompile::amx {

// In 8 bits both ways add the same integers, so that few rows may go the other one, which is faster for up to 7.
template <>
struct Product<Int8<Bfloat16>> : TileProduct<Int8<Bfloat16>, 8> {};
template <>
struct Product<Bfloat16> : TileProduct<Bfloat16, 0> {};

template <>
struct Attention<Bfloat16> {
    static void run(const Heads<Bfloat16>& heads, const Text& text, Scratch& memory) {
        // Of a text of up to 12 tokens more than half a tile would be dropped.
        const bool fills_tiles = heads.size % (kTile * Bfloat16::kWord) == 0 && text.tokens > 12;
        fills_tiles ? attend_with_tiles(heads, text, memory) : attend(heads, text, memory);
    }
};

extern const Generation generation;
const Generation generation{
    kNeedsAvx512 | kAvx512Bf16 | kAmx, &EncoderLayer<Int8<Bfloat16>>::kSteps, &EncoderLayer<Bfloat16>::kSteps, nullptr,
    levels_of};

}  // namespace stcompile::amx
