// Alder Lake and later, Zen 5: AVX2 with sums of four products of bytes in one instruction.

#define STCOMPILE_GENERATION avx_vnni
#include "../simd/avx2.h"

#include "../encoder_layer.h"

namespace stcompile::avx_vnni {

extern const Generation generation;
const Generation generation{
    kNeedsAvx2 | kAvxVnni, &EncoderLayer<Int8<Single<false>>>::kSteps, nullptr, nullptr, levels_of};

}  // namespace stcompile::avx_vnni
