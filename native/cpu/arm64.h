// What an ARM64 CPU has of what kernels need.

#pragma once

#ifdef __linux__
#include <sys/auxv.h>
#endif

#include "../contract.h"

namespace stcompile {

constexpr const char* kLeast = "the dot product of ARMv8.2 (Graviton 2, Ampere Altra, Apple M1, or later)";

inline uint32_t features_found() {
#ifdef __linux__
    constexpr unsigned long kHasDotProduct = 1 << 20;
    return (getauxval(AT_HWCAP) & kHasDotProduct) != 0 ? kDotProduct : 0;
#else
    return kDotProduct;  // every Mac with an ARM64 CPU
#endif
}

}  // namespace stcompile
