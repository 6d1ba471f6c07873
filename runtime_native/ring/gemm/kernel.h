// What a variant of the GEMM family provides. A new one is a file <isa>.cc and a line in
// kernels.inc.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/cpu.h"
#include "ring/gemm/gemm.h"

namespace mpcc::ring {

template <RingWord W>
struct GemmKernel {
  std::string_view name;
  Isa isa;

  // The register tile: a left panel has `mr` rows, a right panel `nr` columns. Depths are padded
  // with zeros to a multiple of `kq`, and panels are `tail` words per row or column longer, for
  // what packing computes beside them.
  std::size_t mr, nr, kq, tail;

  // Cache blocks: depth of a packed block (a multiple of kq), rows and columns of a task.
  std::size_t kc, mc, nc;

  // The least rows, columns and depth of the parts that a product may be cut into to save
  // multiplications (strassen.h), as measured; 0: never.
  std::size_t least_part;

  // Words of a panel of depth k, per row or column.
  constexpr std::size_t panel_depth(std::size_t k) const noexcept {
    return (k + kq - 1) / kq * kq + tail;
  }

  // out = the panel of rows [0, rows) of a, depth k >= 1; rows <= mr. Writes all of the panel's
  // panel_depth(k) * mr words, zeros where the operand ends.
  void (*pack_lhs)(const W* a, std::size_t lda, std::size_t rows, std::size_t k, W* out);
  // out = the panel of columns [0, cols) of b, depth k; cols <= nr. As above.
  void (*pack_rhs)(const W* b, std::size_t ldb, std::size_t k, std::size_t cols, W* out);
  // out = the panel of nr columns and depth k whose word (k, j) is x[row[k] + column[j]].
  void (*gather_rhs)(const W* x, const std::size_t* row, const std::size_t* column, std::size_t k,
                     W* out);
  // y[i] = sum over t < terms of x[t][i], subtracted where bit t of `negative` is set, i < n; zeros
  // for no terms. y may be one of x.
  void (*sum)(std::size_t n, std::size_t terms, const W* const* x, unsigned negative, W* y);
  // c[rows, cols] (+)= lhs panel * rhs panel over depth k.
  void (*tile)(std::size_t k, const W* lhs, const W* rhs, W* c, std::size_t ldc, std::size_t rows,
               std::size_t cols, bool accumulate);
  // y[i] (+)= sum over t < terms of w[t] * x[t][i], i < n: vector times matrix, depthwise rows.
  void (*combine)(std::size_t n, std::size_t terms, const W* const* x, const W* w, W* y,
                  bool accumulate);
  // y[i * ldy] (+)= sum over j < k of a[i * lda + j] * x[j], i < rows: matrix times vector.
  void (*dots)(std::size_t rows, std::size_t k, const W* a, std::size_t lda, const W* x, W* y,
               std::size_t ldy, bool accumulate);
};

namespace internal {

#define MPCC_GEMM_KERNEL(name)                       \
  extern const GemmKernel<std::uint64_t> name##_u64; \
  extern const GemmKernel<std::uint32_t> name##_u32;
#include "ring/gemm/kernels.inc"
#undef MPCC_GEMM_KERNEL

}  // namespace internal

}  // namespace mpcc::ring
