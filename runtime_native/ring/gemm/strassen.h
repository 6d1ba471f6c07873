// Internal: products of large matrices with fewer multiplications.
//
// V. Strassen, "Gaussian elimination is not optimal", Numer. Math. 13 (1969): with both operands
// cut into 2 x 2 parts, seven products of sums of parts and sums of these products give what eight
// products of parts would. It holds in every ring, so words come out the same. Applied `levels`
// times, 7^levels products of parts stand for 8^levels.
//
// Nothing but the packing sees sums: panels are packed from sums of up to 2^levels parts, and every
// product is added to the parts of C that it belongs to, so the matrices of the textbook are never
// made. The last level is done at once: all its 14 sums are packed, then a block of all its seven
// products is computed and added to C while it is in the cache. Parts need not divide the sizes: a
// part that lies beyond the edge counts as zeros, and is not written.
#pragma once

#include <cstddef>
#include <span>

#include "base/thread_pool.h"
#include "ring/gemm/gemm.h"
#include "ring/gemm/kernel.h"
#include "ring/scratch.h"

namespace mpcc::ring::internal {

inline constexpr int kMostLevels = 2;

// How often to cut a product [rows, depth] x [depth, cols]; 0 where plain products are faster. From
// shapes alone.
template <RingWord W>
int strassen_levels(const GemmKernel<W>& kernel, std::size_t rows, std::size_t depth,
                    std::size_t cols) noexcept;

// gemm() of pairs whose right operands are not packed, cut `levels` times, from 1 to kMostLevels.
// Shapes have been checked, and C is not empty.
template <RingWord W>
void strassen(std::span<const GemmPair<W>> pairs, const Matrix<W>& c, bool accumulate, int levels,
              ThreadPool& pool, const GemmKernel<W>& kernel);

// Its working memory per thread. The panels that all threads share lie in the calling thread's, and
// count as if each thread held its share of them.
template <RingWord W>
Scratch strassen_scratch(std::size_t rows, std::size_t depth, std::size_t cols, int levels,
                         int threads, const GemmKernel<W>& kernel);

}  // namespace mpcc::ring::internal
