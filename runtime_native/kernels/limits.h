// Limits of party programs, from the table that the compiler's readers use too (mpcc/ir/limits.py).
#pragma once

#include <cstdint>

namespace mpcc {

#define L(name, value) inline constexpr std::uint64_t name = value;
#include "kernels/limits.inc"
#undef L

}  // namespace mpcc
