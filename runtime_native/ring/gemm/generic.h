// The vector kernels, written once. V is a policy of an instruction-set file:
//   V::Word, V::kLanes
//   V::Vec                     kLanes ring words
//   V::Lhs, V::broadcast(p)    one word in all lanes, in whatever form mac() wants it
//   V::Rhs, V::rhs(v)          a vector prepared for mac()
//   V::Acc, V::zero(), V::mac(acc, lhs, rhs), V::finish(acc)    a sum of products
//   V::load, V::store, V::load_part(p, n), V::store_part(p, v, n), V::add, V::sub, V::sum(v)
// Policies live in unnamed namespaces, so instantiations made with different compiler flags never
// meet in the linker. For the same reason this header uses nothing from the standard library that
// has out-of-line code.
//
// The matrix product halves its multiplications (Winograd, "A new algorithm for inner product",
// IEEE Trans. Computers 1968), exactly, in any commutative ring: for k even
//   sum_k a_k b_k = sum over even k of (a_k + b_(k+1)) (a_(k+1) + b_k) - R(a) - R(b),
//   R(v) = sum over even k of v_k v_(k+1).
// R(a) belongs to a row and R(b) to a column. Packing computes them once per panel and leaves -R as
// the last row of the panel; tile() adds both to the sum. Depths are padded to even ones.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mpcc::ring::internal {

// Left panel: word (i, k) at out[k * kMr + i], then -R of each row.
template <class V, int kMr>
void pack_lhs_rows(const typename V::Word* a, std::size_t lda, std::size_t rows, std::size_t k,
                   typename V::Word* out) {
  using W = typename V::Word;
  const std::size_t padded = k + k % 2;
  if (rows == kMr) {
    for (std::size_t j = 0; j < k; ++j)
#pragma GCC unroll 16
      for (int i = 0; i < kMr; ++i)
        out[j * kMr + static_cast<std::size_t>(i)] = a[static_cast<std::size_t>(i) * lda + j];
  } else {
    for (std::size_t j = 0; j < k; ++j)
      for (std::size_t i = 0; i < kMr; ++i) out[j * kMr + i] = i < rows ? a[i * lda + j] : 0;
  }
  std::memset(out + k * kMr, 0, (padded - k) * kMr * sizeof(W));
  W sums[kMr] = {};
  for (std::size_t j = 0; j < padded; j += 2)
#pragma GCC unroll 16
    for (int i = 0; i < kMr; ++i)
      sums[i] -= static_cast<W>(out[j * kMr + static_cast<std::size_t>(i)] *
                                out[(j + 1) * kMr + static_cast<std::size_t>(i)]);
  std::memcpy(out + padded * kMr, sums, sizeof(sums));
}

// The last rows of a right panel: zeros up to an even depth, then -R of each column.
template <class V, int kVecs>
void finish_rhs(std::size_t k, typename V::Word* out) {
  using W = typename V::Word;
  constexpr std::size_t kL = V::kLanes;
  constexpr std::size_t kNr = kL * kVecs;
  const std::size_t padded = k + k % 2;
  std::memset(out + k * kNr, 0, (padded - k) * kNr * sizeof(W));
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) {
    W* p = out + static_cast<std::size_t>(j) * kL;
    typename V::Acc acc = V::zero();
    for (std::size_t i = 0; i < padded; i += 2)
      V::mac(acc, V::lhs(V::load(p + i * kNr)), V::rhs(V::load(p + (i + 1) * kNr)));
    V::store(p + padded * kNr, V::sub(V::finish(V::zero()), V::finish(acc)));
  }
}

// Right panel: word (k, j) at out[k * kNr + j], then -R of each column.
template <class V, int kVecs>
void pack_rhs_columns(const typename V::Word* b, std::size_t ldb, std::size_t k, std::size_t cols,
                      typename V::Word* out) {
  constexpr std::size_t kNr = V::kLanes * kVecs;
  if (cols == kNr) {
    for (std::size_t i = 0; i < k; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < kVecs; ++j) {
        const std::size_t at = static_cast<std::size_t>(j) * V::kLanes;
        V::store(out + i * kNr + at, V::load(b + i * ldb + at));
      }
  } else {
    for (std::size_t i = 0; i < k; ++i)
      for (std::size_t j = 0; j < kNr; ++j) out[i * kNr + j] = j < cols ? b[i * ldb + j] : 0;
  }
  finish_rhs<V, kVecs>(k, out);
}

// The same panel of words that stand anywhere: (k, j) is x[row[k] + column[j]]. Vectors of columns
// that follow each other in memory are copied as such.
template <class V, int kVecs>
void gather_rhs_columns(const typename V::Word* x, const std::size_t* row,
                        const std::size_t* column, std::size_t k, typename V::Word* out) {
  constexpr std::size_t kL = V::kLanes;
  constexpr std::size_t kNr = kL * kVecs;
#pragma GCC unroll 16
  for (int v = 0; v < kVecs; ++v) {
    const std::size_t* at = column + static_cast<std::size_t>(v) * kL;
    typename V::Word* to = out + static_cast<std::size_t>(v) * kL;
    bool consecutive = true;
    for (std::size_t j = 1; j < kL; ++j) consecutive = consecutive && at[j] == at[0] + j;
    if (consecutive) {
      const typename V::Word* from = x + at[0];
      for (std::size_t i = 0; i < k; ++i) V::store(to + i * kNr, V::load(from + row[i]));
    } else {
      for (std::size_t i = 0; i < k; ++i) {
        const typename V::Word* from = x + row[i];
#pragma GCC unroll 16
        for (std::size_t j = 0; j < kL; ++j) to[i * kNr + j] = from[at[j]];
      }
    }
  }
  finish_rhs<V, kVecs>(k, out);
}

// kRows x (kVecs vectors) of C in registers; the left panel has kMr rows, of which kRows are used.
template <class V, int kMr, int kRows, int kVecs>
void tile_rows(std::size_t k, const typename V::Word* lhs, const typename V::Word* rhs,
               typename V::Word* c, std::size_t ldc, std::size_t cols, bool accumulate) {
  constexpr std::size_t kL = V::kLanes;
  constexpr std::size_t kNr = kL * kVecs;
  typename V::Acc acc[kRows][kVecs];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) acc[i][j] = V::zero();

  std::size_t steps = (k + 1) / 2;
  do {  // callers give k >= 1
    typename V::Vec even[kVecs], odd[kVecs];
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) {
      even[j] = V::load(rhs + static_cast<std::size_t>(j) * kL);
      odd[j] = V::load(rhs + kNr + static_cast<std::size_t>(j) * kL);
    }
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i) {
      const typename V::Vec a = V::broadcast(lhs + i);
      const typename V::Vec next = V::broadcast(lhs + kMr + i);
#pragma GCC unroll 16
      for (int j = 0; j < kVecs; ++j)
        V::mac(acc[i][j], V::lhs(V::add(a, odd[j])), V::rhs(V::add(next, even[j])));
    }
    lhs += 2 * kMr;
    rhs += 2 * kNr;
  } while (--steps > 0);

  typename V::Vec sums[kRows][kVecs];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j) {
      const typename V::Vec r =
          V::add(V::broadcast(lhs + i), V::load(rhs + static_cast<std::size_t>(j) * kL));
      sums[i][j] = V::add(V::finish(acc[i][j]), r);
    }

  if (cols == kNr) {
#pragma GCC unroll 16
    for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
      for (int j = 0; j < kVecs; ++j) {
        typename V::Word* p =
            c + static_cast<std::size_t>(i) * ldc + static_cast<std::size_t>(j) * kL;
        if (accumulate) sums[i][j] = V::add(sums[i][j], V::load(p));
        V::store(p, sums[i][j]);
      }
    return;
  }
  alignas(64) typename V::Word words[kRows][kNr];
#pragma GCC unroll 16
  for (int i = 0; i < kRows; ++i)
#pragma GCC unroll 16
    for (int j = 0; j < kVecs; ++j)
      V::store(words[i] + static_cast<std::size_t>(j) * kL, sums[i][j]);
  for (std::size_t i = 0; i < kRows; ++i)
    for (std::size_t j = 0; j < cols; ++j)
      c[i * ldc + j] = accumulate ? c[i * ldc + j] + words[i][j] : words[i][j];
}

// Chooses the instantiation for the number of rows that exist, so that a short last panel (or M =
// 1) pays for its own rows only.
template <class V, int kMr, int kRows, int kVecs>
void tile(std::size_t k, const typename V::Word* lhs, const typename V::Word* rhs,
          typename V::Word* c, std::size_t ldc, std::size_t rows, std::size_t cols,
          bool accumulate) {
  if constexpr (kRows > 1) {
    if (rows < kRows)
      return tile<V, kMr, kRows - 1, kVecs>(k, lhs, rhs, c, ldc, rows, cols, accumulate);
  }
  tile_rows<V, kMr, kRows, kVecs>(k, lhs, rhs, c, ldc, cols, accumulate);
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

// y[0, kVecs vectors) from `at` on, see sum_rows().
template <class V, int kVecs>
inline __attribute__((always_inline)) void sum_block(std::size_t at, std::size_t terms,
                                                     const typename V::Word* const* x,
                                                     unsigned negative, typename V::Word* y) {
  constexpr std::size_t kL = V::kLanes;
  typename V::Vec sums[kVecs];
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) sums[j] = V::finish(V::zero());
  for (std::size_t t = 0; t < terms; ++t) {
    const typename V::Word* p = x[t] + at;
    if ((negative >> t) & 1U) {
#pragma GCC unroll 16
      for (int j = 0; j < kVecs; ++j)
        sums[j] = V::sub(sums[j], V::load(p + static_cast<std::size_t>(j) * kL));
    } else {
#pragma GCC unroll 16
      for (int j = 0; j < kVecs; ++j)
        sums[j] = V::add(sums[j], V::load(p + static_cast<std::size_t>(j) * kL));
    }
  }
#pragma GCC unroll 16
  for (int j = 0; j < kVecs; ++j) V::store(y + at + static_cast<std::size_t>(j) * kL, sums[j]);
}

template <class V>
void sum_rows(std::size_t n, std::size_t terms, const typename V::Word* const* x, unsigned negative,
              typename V::Word* y) {
  constexpr std::size_t kL = V::kLanes;
  std::size_t i = 0;
  for (; n - i >= 8 * kL; i += 8 * kL) sum_block<V, 8>(i, terms, x, negative, y);
  for (; n - i >= kL; i += kL) sum_block<V, 1>(i, terms, x, negative, y);
  for (; i < n; ++i) {
    typename V::Word word = 0;
    for (std::size_t t = 0; t < terms; ++t) word += ((negative >> t) & 1U) ? 0 - x[t][i] : x[t][i];
    y[i] = word;
  }
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
