// What an ARM64 CPU has of what kernels need.

#pragma once

#ifdef __linux__
#include <sys/auxv.h>
#else
#include <sys/sysctl.h>
#endif

#include "../contract.h"

namespace stcompile {

constexpr const char* kLeast = "the dot product of ARMv8.2 (Graviton 2, Ampere Altra, Apple M1, or later)";

inline uint32_t features_found() {
#ifdef __linux__
    constexpr unsigned long kHasDotProduct = 1 << 20, kHasInt8Matrix = 1 << 13;  // of the first and second word
    return ((getauxval(AT_HWCAP) & kHasDotProduct) != 0 ? kDotProduct : 0u) |
           ((getauxval(AT_HWCAP2) & kHasInt8Matrix) != 0 ? kInt8Matrix : 0u);
#else
    int has_matrix = 0;  // the dot product every Mac with an ARM64 CPU has
    size_t size = sizeof has_matrix;
    sysctlbyname("hw.optional.arm.FEAT_I8MM", &has_matrix, &size, nullptr, 0);
    return kDotProduct | (has_matrix != 0 ? kInt8Matrix : 0u);
#endif
}

}  // namespace stcompile
