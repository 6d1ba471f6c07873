// For tests of the ring kernels: which variants can be tested here, and words worth testing with.
#pragma once

#include <doctest/doctest.h>

#include <string>
#include <vector>

#include "ring/gemm/kernel.h"
#include "ring/gemm/make_kernel.h"
#include "ring/gemm/plain_vec.h"
#include "ring/gemm/tiles.h"
#include "testing/random.h"

namespace mpcc::ring::testing {

// Uniform words, among which the extremes are frequent: 0, 1, -1 (all limbs full), 2^(l-1).
template <RingWord W>
std::vector<W> words(mpcc::testing::TestRandom& random, std::size_t n) {
  std::vector<W> v(n);
  for (W& x : v) {
    const std::uint64_t r = random.next();
    x = static_cast<W>(r >> (64 - 8 * sizeof(W)));
    if (r % 7 == 0) x = ~W{0};
    if (r % 31 == 0) x = static_cast<W>(r % 2);
    if (r % 37 == 0) x = W{1} << (8 * sizeof(W) - 1);
  }
  return v;
}

// The variants that this machine has, plus wide vectors and tiles emulated in plain C++, which give
// the logic of the AVX-512 and AMX variants to every machine.
template <RingWord W>
std::vector<const GemmKernel<W>*> testable_kernels() {
  static constexpr GemmKernel<W> vectors =
      internal::make_vector_kernel<internal::PlainVec<W, 64 / sizeof(W)>, 8, 2>("emulated-vectors",
                                                                                Isa::scalar);
  static constexpr GemmKernel<W> tiles =
      internal::make_tile_kernel<internal::EmulatedTiles, internal::PlainVec<W, 1>>(
          internal::make_vector_kernel<internal::PlainVec<W, 1>, 3, 2>("", Isa::scalar),
          "emulated-tiles", Isa::scalar);
  std::vector<const GemmKernel<W>*> kernels = {&vectors, &tiles};
  for (const GemmKernel<W>* k : gemm_kernels<W>())
    if (cpu_features().supports(k->isa)) kernels.push_back(k);
  return kernels;
}

// Says which variants were tested and which skipped.
template <RingWord W>
void report_kernels() {
  for (const GemmKernel<W>* k : gemm_kernels<W>())
    if (!cpu_features().supports(k->isa))
      MESSAGE("skipped: " << std::string(k->name) << " u" << 8 * sizeof(W)
                          << " (this CPU lacks it)");
  for (const GemmKernel<W>* k : testable_kernels<W>())
    MESSAGE("tested: " << std::string(k->name) << " u" << 8 * sizeof(W));
}

}  // namespace mpcc::ring::testing
