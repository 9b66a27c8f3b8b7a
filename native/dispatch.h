// Which generation's kernels run here.

#pragma once

#include <string>

#include "contract.h"

namespace stcompile {

enum class Format { kInt8, kBfloat16, kFloat32 };

// The widest generation that was compiled and that this CPU has, or the one that STCOMPILE_KERNELS names; chosen once.
struct Choice {
    std::string name;
    std::string refusal;  // why there is none; empty where there is one
};
const Choice& choice();

// Its kernels, or those of the next narrower one that has some. Throws std::runtime_error where there is no choice.
const Steps& steps_of(Format format);

}  // namespace stcompile
