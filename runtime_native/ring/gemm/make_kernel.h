// Internal: fills a GemmKernel from a vector policy.
#pragma once

#include "ring/gemm/generic.h"
#include "ring/gemm/kernel.h"

namespace mpcc::ring::internal {

// kMr rows by kVecs vectors of C are held in registers.
template <class V, int kMr, int kVecs>
constexpr GemmKernel<typename V::Word> make_vector_kernel(const char* name, Isa isa,
                                                          std::size_t least_part = 0) {
  return {.name = name,
          .isa = isa,
          .mr = kMr,
          .nr = V::kLanes * kVecs,
          .kq = 2,
          .tail = 1,
          // A right panel (kc x nr words) stays in L1 while the left block (mc x kc) streams from
          // L2.
          .kc = 256,
          .mc = 32 * kMr,
          .nc = 256,
          .least_part = least_part,
          .pack_lhs = &pack_lhs_rows<V, kMr>,
          .pack_rhs = &pack_rhs_columns<V, kVecs>,
          .gather_rhs = &gather_rhs_columns<V, kVecs>,
          .sum = &sum_rows<V>,
          .tile = &tile<V, kMr, kMr, kVecs>,
          .combine = &combine<V, 4>,
          .dots = &dots<V>};
}

}  // namespace mpcc::ring::internal
