// Matrix products over Z_2^32 and Z_2^64.
//
//   C[M,N] (+)= sum over pairs p of A_p[M,K_p] * B_p[K_p,N]        all arithmetic mod 2^l
//
// A replicated-sharing product is such a sum (x0*w0 + x0*w1 + x1*w0), so several pairs are one
// call: the result is written once. Variants per instruction set are equal bit for bit, and equal
// to gemm_reference. No branch and no address depends on a matrix element.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/cpu.h"
#include "base/secret_buffer.h"
#include "base/thread_pool.h"
#include "ring/scratch.h"
#include "ring/word.h"

namespace mpcc::ring {

// Row-major views: element (i, j) is data[i * ld + j], ld >= cols.
template <RingWord W>
struct ConstMatrix {
  const W* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t ld = 0;
};

template <RingWord W>
struct Matrix {
  W* data = nullptr;
  std::size_t rows = 0;
  std::size_t cols = 0;
  std::size_t ld = 0;
};

// One variant; see kernel.h for what it must provide.
template <RingWord W>
struct GemmKernel;

// All variants that were built, ascending priority.
template <RingWord W>
std::span<const GemmKernel<W>* const> gemm_kernels() noexcept;

// The best variant that this machine has, that MPCC_ISA permits and that agrees with the reference
// on a built-in check (once per process; a variant that disagrees is reported on stderr and never
// used). Throws the errors of chosen_isa(), and Error("E-ring-self-check") if no variant is right.
template <RingWord W>
const GemmKernel<W>& gemm_kernel();

// Compares a variant with the reference on sizes around its tile. The CPU must support it.
template <RingWord W>
bool self_check(const GemmKernel<W>& kernel);

namespace internal {

// One operand cut into panels of `width` rows (left) or columns (right), blocked along the depth
// K by kernel.kc. Layout inside a panel is the kernel's own.
template <RingWord W>
class Panels {
 public:
  Panels() = default;
  Panels(const GemmKernel<W>& kernel, std::size_t width, std::size_t extent, std::size_t depth);

  W* panel(std::size_t k0, std::size_t index) noexcept { return at(k0, index); }
  const W* panel(std::size_t k0, std::size_t index) const noexcept { return at(k0, index); }
  std::size_t bytes() const noexcept { return data_.size(); }
  // bytes() of panels made of these sizes.
  static std::size_t bytes_for(const GemmKernel<W>& kernel, std::size_t width, std::size_t extent,
                               std::size_t depth);

 private:
  W* at(std::size_t k0, std::size_t index) const noexcept;

  std::size_t width_ = 0, count_ = 0, depth_ = 0;
  const GemmKernel<W>* kernel_ = nullptr;
  SecretBuffer data_;
};

}  // namespace internal

// A right-hand operand (weights) packed once and used by many products. Immutable; may be shared by
// threads. Bound to the variant that packed it.
template <RingWord W>
class PackedMatrix {
 public:
  // Packs b for `kernel` (default: gemm_kernel<W>()).
  explicit PackedMatrix(ConstMatrix<W> b, const GemmKernel<W>* kernel = nullptr);

  std::size_t rows() const noexcept { return rows_; }
  std::size_t cols() const noexcept { return cols_; }
  std::size_t bytes() const noexcept { return panels_.bytes(); }
  // bytes() of a packed [rows, cols] matrix.
  static std::size_t bytes_for(std::size_t rows, std::size_t cols,
                               const GemmKernel<W>* kernel = nullptr);
  const GemmKernel<W>& kernel() const noexcept { return *kernel_; }
  const internal::Panels<W>& panels() const noexcept { return panels_; }

 private:
  std::size_t rows_, cols_;
  const GemmKernel<W>* kernel_;
  internal::Panels<W> panels_;
};

// One product A * B of the sum. `packed`, when set, is used in place of `b`.
template <RingWord W>
struct GemmPair {
  ConstMatrix<W> a;
  ConstMatrix<W> b = {};
  const PackedMatrix<W>* packed = nullptr;
};

// The product above; `accumulate` adds to what C holds, otherwise C is overwritten (with zeros for
// no pairs or K = 0). C must not overlap any operand. `kernel` must be null or the kernel of every
// packed operand. Throws Error("E-ring-shape") when sizes do not agree, Error("E-ring-kernel") when
// variants are mixed.
template <RingWord W>
void gemm(std::span<const GemmPair<W>> pairs, Matrix<W> c, bool accumulate, ThreadPool& pool,
          const GemmKernel<W>* kernel = nullptr);

// Whether gemm() makes fewer multiplications of a product [rows, depth] x [depth, cols] if its
// right operand is not packed: it is large enough to be cut into parts (strassen.h), which are
// summed before they are packed.
template <RingWord W>
bool gemm_cuts(std::size_t rows, std::size_t depth, std::size_t cols,
               const GemmKernel<W>* kernel = nullptr);

// Working memory per thread of gemm() on pairs [rows, depth] x [depth, cols], of which some or all
// have a packed right operand.
template <RingWord W>
internal::Scratch gemm_scratch(std::size_t rows, std::size_t depth, std::size_t cols,
                               bool any_packed, bool all_packed, int threads,
                               const GemmKernel<W>* kernel = nullptr);

// The definition, in three loops.
template <RingWord W>
void gemm_reference(std::span<const GemmPair<W>> pairs, Matrix<W> c, bool accumulate);

}  // namespace mpcc::ring
