// Variants of the kernels of party.harmonics and party.fourier, per instruction set.
//
// All are one source (generic.h) over a policy of a few operations on 64-bit lanes, so they are
// equal bit for bit. No branch and no address depends on a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/cpu.h"
#include "kernels/limits.h"

namespace mpcc::kernels {

// Lanes that are computed at a time.
constexpr std::size_t kHarmonicLanes = 32;

struct HarmonicParams {
  // The angle of a word: its product by the multiplier, and where the period's top 32 bits are.
  std::uint64_t multiplier = 1;
  int left = 0;
  int right = 0;
  std::uint64_t half = 0;
  std::size_t count = 0;  // harmonics, at most kMaxHarmonics
  int precision = 0;
  std::size_t first = 0, rows = 0;     // harmonics
  std::vector<std::int32_t> cos, sin;  // fourier
  int shift = 0;
};

// Lanes [begin, end), begin a multiple of kHarmonicLanes. `x`, `out` and the rows have `lanes`
// words each; their sizes in bytes are those of the entry of `harmonics` and `fourier` below.
using HarmonicsKernel = void (*)(const HarmonicParams&, const void* x, void* out, std::size_t lanes,
                                 std::size_t begin, std::size_t end);
using FourierKernel = void (*)(const HarmonicParams&, const void* x, const void* const* rows,
                               void* out, std::size_t begin, std::size_t end);

struct HarmonicVariant {
  std::string_view name;
  Isa isa;
  bool (*supported)(const CpuFeatures&);
  // By whether words of x, and of the rows and results, have 64 bits.
  HarmonicsKernel harmonics[2][2];
  FourierKernel fourier[2][2];
};

// Ascending priority.
std::span<const HarmonicVariant* const> harmonic_variants() noexcept;
// The best variant of at most this instruction set that this CPU has and that agrees with the
// scalar one on a built-in check; one that disagrees is reported on stderr and not used.
const HarmonicVariant& harmonic_variant(Isa wanted);

}  // namespace mpcc::kernels
