// The vector kernels, written once. V is a policy of an instruction-set file:
//   V::Word, V::kLanes
//   V::Vec                     kLanes ring words
//   V::Lhs, V::broadcast(p)    one word in all lanes, in whatever form mac() wants it
//   V::Rhs, V::rhs(v)          a vector prepared for mac()
//   V::Acc, V::zero(), V::mac(acc, lhs, rhs), V::finish(acc)    a sum of products
//   V::load, V::store, V::load_part(p, n), V::store_part(p, v, n), V::add, V::sum(v)
// Policies live in unnamed namespaces, so instantiations made with different compiler flags never
// meet in the linker. For the same reason this header uses nothing from the standard library that
// has out-of-line code.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mpcc::ring::internal {

// Left panel: word (i, k) at out[k * kMr + i].
template <class V, int kMr>
void pack_lhs_rows(const typename V::Word* a, std::size_t lda, std::size_t rows, std::size_t k,
                   typename V::Word* out) {
  if (rows == kMr) {
    for (std::size_t j = 0; j < k; ++j)
#pragma GCC unroll 16
      for (int i = 0; i < kMr; ++i)
        out[j * kMr + static_cast<std::size_t>(i)] = a[static_cast<std::size_t>(i) * lda + j];
    return;
  }
  for (std::size_t j = 0; j < k; ++j)
    for (std::size_t i = 0; i < kMr; ++i) out[j * kMr + i] = i < rows ? a[i * lda + j] : 0;
}

// Right panel: word (k, j) at out[k * kNr + j].
template <class V, int kNr>
void pack_rhs_columns(const typename V::Word* b, std::size_t ldb, std::size_t k, std::size_t cols,
                      typename V::Word* out) {
  using W = typename V::Word;
  if (cols == kNr) {
    for (std::size_t i = 0; i < k; ++i) std::memcpy(out + i * kNr, b + i * ldb, kNr * sizeof(W));
    return;
  }
  for (std::size_t i = 0; i < k; ++i)
    for (std::size_t j = 0; j < kNr; ++j) out[i * kNr + j] = j < cols ? b[i * ldb + j] : 0;
}

// kRows x (kVecs vectors) of C in registers; the left panel has kMr rows, of which kRows are used.
template <class V, int kMr, int kRows, int kVecs>
void tile_rows(std::size_t k, const typename V::Word* lhs, const typename V::Word* rhs,
               std::size_t ldb, typename V::Word* c, std::size_t ldc, std::size_t cols,
               bool accumulate) {
  constexpr std::size_t kL = V::kLanes;
  typename V::Acc acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) acc[i][j] = V::zero();

  do {  // callers give k >= 1
    typename V::Rhs r[kVecs];
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) r[j] = V::rhs(V::load(rhs + static_cast<std::size_t>(j) * kL));
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const typename V::Lhs l = V::broadcast(lhs + i);
#pragma GCC unroll 16
      for (int j = 0; j < kVecs; ++j) V::mac(acc[i][j], l, r[j]);
    }
    lhs += kMr;
    rhs += ldb;
  } while (--k > 0);

  // Through memory, so that the loop above has one way out and the accumulators one home.
  alignas(64) typename V::Word sums[kRows][kL * kVecs];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j)
      V::store(sums[i] + static_cast<std::size_t>(j) * kL, V::finish(acc[i][j]));

  if (cols == kL * kVecs) {
    for (std::size_t i = 0; i < kRows; ++i)
      for (std::size_t j = 0; j < kL * kVecs; j += kL) {
        typename V::Word* p = c + i * ldc + j;
        const typename V::Vec v = V::load(sums[i] + j);
        V::store(p, accumulate ? V::add(V::load(p), v) : v);
      }
    return;
  }
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::size_t j = 0; j < cols; ++j)
      c[i * ldc + j] = accumulate ? c[i * ldc + j] + sums[i][j] : sums[i][j];
}

// Chooses the instantiation for the number of rows that exist, so that a short last panel (or M =
// 1) pays for its own rows only.
template <class V, int kMr, int kRows, int kVecs>
void tile(std::size_t k, const typename V::Word* lhs, const typename V::Word* rhs, std::size_t ldb,
          typename V::Word* c, std::size_t ldc, std::size_t rows, std::size_t cols,
          bool accumulate) {
  if constexpr (kRows > 1) {
    if (rows < kRows)
      return tile<V, kMr, kRows - 1, kVecs>(k, lhs, rhs, ldb, c, ldc, rows, cols, accumulate);
  }
  tile_rows<V, kMr, kRows, kVecs>(k, lhs, rhs, ldb, c, ldc, cols, accumulate);
}

template <class V, int kVecs>
inline __attribute__((always_inline)) void combine_block(std::size_t at, std::size_t terms,
                                                         const typename V::Word* const* x,
                                                         const typename V::Word* w,
                                                         typename V::Word* y, bool accumulate) {
  constexpr std::size_t kL = V::kLanes;
  typename V::Acc acc[kVecs];
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) acc[j] = V::zero();
  for (std::size_t t = 0; t < terms; ++t) {
    // The weight is the right operand: it is prepared once for all vectors.
    const typename V::Rhs r = V::rhs(V::broadcast(w + t));
    const typename V::Word* p = x[t] + at;
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j)
      V::mac(acc[j], V::lhs(V::load(p + static_cast<std::size_t>(j) * kL)), r);
  }
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) {
    typename V::Word* p = y + at + static_cast<std::size_t>(j) * kL;
    const typename V::Vec v = V::finish(acc[j]);
    V::store(p, accumulate ? V::add(V::load(p), v) : v);
  }
}

template <class V, int kVecs>
void combine(std::size_t n, std::size_t terms, const typename V::Word* const* x,
             const typename V::Word* w, typename V::Word* y, bool accumulate) {
  constexpr std::size_t kL = V::kLanes;
  std::size_t i = 0;
  for (; n - i >= kL * kVecs; i += kL * kVecs)
    combine_block<V, kVecs>(i, terms, x, w, y, accumulate);
  if constexpr (kVecs > 2) {
    for (; n - i >= kL * 2; i += kL * 2) combine_block<V, 2>(i, terms, x, w, y, accumulate);
  }
  for (; n - i >= kL; i += kL) combine_block<V, 1>(i, terms, x, w, y, accumulate);
  const std::size_t rest = n - i;
  if (rest == 0) return;
  typename V::Acc acc = V::zero();
  for (std::size_t t = 0; t < terms; ++t)
    V::mac(acc, V::lhs(V::load_part(x[t] + i, rest)), V::rhs(V::broadcast(w + t)));
  const typename V::Vec v = V::finish(acc);
  V::store_part(y + i, accumulate ? V::add(V::load_part(y + i, rest), v) : v, rest);
}

template <class V, int kRows>
inline __attribute__((always_inline)) void dots_block(std::size_t k, const typename V::Word* a,
                                                      std::size_t lda, const typename V::Word* x,
                                                      typename V::Word* y, std::size_t ldy,
                                                      bool accumulate) {
  constexpr std::size_t kL = V::kLanes;
  typename V::Acc acc[kRows];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) acc[i] = V::zero();
  std::size_t j = 0;
  for (; k - j >= kL; j += kL) {
    const typename V::Rhs r = V::rhs(V::load(x + j));
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
      V::mac(acc[i], V::lhs(V::load(a + static_cast<std::size_t>(i) * lda + j)), r);
  }
  if (j < k) {
    const typename V::Rhs r = V::rhs(V::load_part(x + j, k - j));
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
      V::mac(acc[i], V::lhs(V::load_part(a + static_cast<std::size_t>(i) * lda + j, k - j)), r);
  }
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i) {
    const typename V::Word s = V::sum(V::finish(acc[i]));
    typename V::Word* p = y + static_cast<std::size_t>(i) * ldy;
    *p = accumulate ? *p + s : s;
  }
}

template <class V>
void dots(std::size_t rows, std::size_t k, const typename V::Word* a, std::size_t lda,
          const typename V::Word* x, typename V::Word* y, std::size_t ldy, bool accumulate) {
  std::size_t i = 0;
  for (; rows - i >= 4; i += 4)
    dots_block<V, 4>(k, a + i * lda, lda, x, y + i * ldy, ldy, accumulate);
  for (; i < rows; ++i) dots_block<V, 1>(k, a + i * lda, lda, x, y + i * ldy, ldy, accumulate);
}

}  // namespace mpcc::ring::internal
