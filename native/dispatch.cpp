#include "dispatch.h"

#ifdef __aarch64__
#include "cpu/arm64.h"
#else
#include "cpu/x86_64.h"
#endif

#include <cstdlib>
#include <cstring>
#include <stdexcept>

// The generations that were compiled, from narrow to wide: ONE(avx2) ONE(avx_vnni) ...
#define ONE(name)                        \
    namespace stcompile::name {          \
    extern const Generation generation;  \
    }
STCOMPILE_GENERATIONS
#undef ONE

namespace stcompile {
namespace {

struct Compiled {
    const char* name;
    const Generation* generation;
};
constexpr Compiled kCompiled[] = {
#define ONE(name) {#name, &name::generation},
    STCOMPILE_GENERATIONS
#undef ONE
};

bool runs_here(const Compiled& compiled) {
    static const uint32_t features = features_found();
    return (features & compiled.generation->needs) == compiled.generation->needs;
}

std::string names(bool here) {
    std::string joined;
    for (const Compiled& compiled : kCompiled) {
        if (!here || runs_here(compiled)) joined += (joined.empty() ? "" : " ") + std::string(compiled.name);
    }
    return joined;
}

Choice chosen() {
    const char* variable = std::getenv("STCOMPILE_KERNELS");
    const std::string wanted = variable == nullptr ? "" : variable, named = "STCOMPILE_KERNELS names " + wanted;
    std::string widest;
    for (const Compiled& compiled : kCompiled) {
        const bool runs = runs_here(compiled);
        if (runs) widest = compiled.name;
        if (wanted != compiled.name) continue;
        if (!runs) return {"", named + ", which this CPU lacks: it runs " + names(true)};
        return {wanted, ""};
    }
    if (!wanted.empty()) return {"", named + ", which is none of the kernels compiled: " + names(false)};
    return {widest, widest.empty() ? std::string("the fused operators need ") + kLeast : ""};
}

}  // namespace

const Choice& choice() {
    static const Choice made = chosen();
    return made;
}

const Steps& steps_of(Format format) {
    if (!choice().refusal.empty()) throw std::runtime_error(choice().refusal);
    const Steps* found = nullptr;
    for (const Compiled& compiled : kCompiled) {
        const Generation& generation = *compiled.generation;
        const Steps* own = format == Format::kInt8       ? generation.int8
                           : format == Format::kBfloat16 ? generation.bfloat16
                                                         : generation.float32;
        if (own != nullptr && runs_here(compiled)) found = own;
        if (choice().name == compiled.name) break;
    }
    return *found;  // the narrowest has all, and is always compiled
}

}  // namespace stcompile

// For whoever asks without ONNX Runtime: names with a space between them.
#define EXPORTED extern "C" __attribute__((visibility("default")))

EXPORTED const char* stcompile_kernels_compiled() {
    static const std::string compiled = stcompile::names(false);
    return compiled.c_str();
}

EXPORTED const char* stcompile_kernels_here() {
    static const std::string here = stcompile::names(true);
    return here.c_str();
}

// The one taken; empty where none is, and then `stcompile_kernels_refusal` says why.
EXPORTED const char* stcompile_kernels_taken() { return stcompile::choice().name.c_str(); }

EXPORTED const char* stcompile_kernels_refusal() { return stcompile::choice().refusal.c_str(); }

// For tests: the 8-bit levels of a row as a generation rounds it, and their scale; -1 where it does not run here.
EXPORTED float stcompile_levels(
    const char* generation, const float* row, const float* smooth, size_t width, int zero_point, float smallest,
    uint8_t* to) {
    for (const stcompile::Compiled& compiled : stcompile::kCompiled) {
        if (std::strcmp(compiled.name, generation) != 0 || !stcompile::runs_here(compiled)) continue;
        stcompile::Linear layer;
        layer.in = width;
        layer.smooth = smooth;
        layer.zero_point = zero_point;
        layer.smallest = smallest;
        return compiled.generation->levels(row, layer, to);
    }
    return -1;
}
