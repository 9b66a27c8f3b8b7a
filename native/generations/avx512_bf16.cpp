// Zen 4 and Cooper Lake: AVX-512 that multiplies bytes and bfloat16.

#define STCOMPILE_GENERATION avx512_bf16
#include "../simd/avx512.h"

#include "../encoder_layer.h"

namespace stcompile::avx512_bf16 {

extern const Generation generation;
const Generation generation{
    kNeedsAvx512 | kAvx512Bf16, &EncoderLayer<Int8<Bfloat16>>::kSteps, &EncoderLayer<Bfloat16>::kSteps, nullptr, levels_of};

}  // namespace stcompile::avx512_bf16
