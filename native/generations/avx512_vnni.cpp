// Cascade Lake and Ice Lake: AVX-512 with sums of four products of bytes, without bfloat16.

#define STCOMPILE_GENERATION avx512_vnni
#include "../simd/avx512.h"

#include "../encoder_layer.h"

namespace stcompile::avx512_vnni {

extern const Generation generation;
const Generation generation{
    kNeedsAvx512, &EncoderLayer<Int8<Single<false>>>::kSteps, &EncoderLayer<WidenedBfloat16>::kSteps,
    &EncoderLayer<Float32>::kSteps, levels_of};

}  // namespace stcompile::avx512_vnni
