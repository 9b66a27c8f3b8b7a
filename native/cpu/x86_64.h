// What an x86-64 CPU has of what kernels need.

#pragma once

#include <cpuid.h>
#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include "../contract.h"

namespace stcompile {

constexpr const char* kLeast = "AVX2 and FMA (Intel since Haswell, AMD since Zen)";

// Linux gives a process tile registers when it asks; how others do has not been tried.
inline bool may_use_tiles() {
#ifdef __linux__
    constexpr long kAskForPermission = 0x1023, kTileData = 18;
    return syscall(SYS_arch_prctl, kAskForPermission, kTileData) == 0;
#else
    return false;
#endif
}

inline uint32_t features_found() {
    uint32_t a, b, c, d;
    if (__get_cpuid_count(1, 0, &a, &b, &c, &d) == 0) return 0;
    const bool fma = c >> 12 & 1, saves_registers = c >> 27 & 1;
    if (!saves_registers) return 0;
    // Which registers the system keeps for a process: an instruction that the CPU has is of no use without.
    uint32_t kept, above;
    __asm__("xgetbv" : "=a"(kept), "=d"(above) : "c"(0));
    const auto keeps = [&](uint32_t bits) { return (kept & bits) == bits; };
    if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || !keeps(0x6)) return 0;
    uint32_t a1 = 0, b1, c1, d1;
    if (a >= 1) __get_cpuid_count(7, 1, &a1, &b1, &c1, &d1);
    uint32_t found = 0;
    const auto note = [&](Feature feature, bool has) {
        if (has) found |= feature;
    };
    note(kFma, fma);
    note(kAvx2, b >> 5 & 1);
    note(kAvxVnni, a1 >> 4 & 1);
    if (!keeps(0xe6)) return found;
    const uint32_t foundation = 1u << 16 | 1u << 17 | 1u << 30 | 1u << 31;  // F, DQ, BW, VL
    note(kAvx512, (b & foundation) == foundation);
    note(kAvx512Vnni, c >> 11 & 1);
    note(kAvx512Bf16, a1 >> 5 & 1);
    const uint32_t tiles = 1u << 22 | 1u << 24 | 1u << 25;  // bfloat16, registers, int8
    note(kAmx, keeps(0x60000) && (d & tiles) == tiles && may_use_tiles());
    return found;
}

}  // namespace stcompile
