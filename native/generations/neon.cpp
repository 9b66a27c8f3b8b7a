// ARMv8.2 with sums of four products of bytes: Graviton 2, Ampere, Apple's M1, and later.

#define STCOMPILE_GENERATION neon
#include "../simd/neon.h"

#include "../encoder_layer.h"

namespace stcompile::neon {

extern const Generation generation;
const Generation generation{
    kDotProduct, &EncoderLayer<Int8<Single<false>>>::kSteps, &EncoderLayer<WidenedBfloat16>::kSteps,
    &EncoderLayer<Float32>::kSteps, levels_of};

}  // namespace stcompile::neon
