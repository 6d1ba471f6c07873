// Internal: the AVX-512 vector policies, shared by avx512.cc and by amx.cc (whose matrix-vector
// products are the AVX-512 ones). Include only from files compiled for AVX-512.
#pragma once

#include <immintrin.h>

#include "ring/gemm/make_kernel.h"

namespace mpcc::ring::internal {
namespace {

// vpmullq is three micro-operations on Intel and one or two on Zen 4: never slower than the split
// that AVX2 needs, and one accumulator instead of two.
struct Avx512U64 {
  using Word = std::uint64_t;
  static constexpr std::size_t kLanes = 8;
  using Vec = __m512i;
  using Lhs = __m512i;
  using Rhs = __m512i;
  using Acc = __m512i;

  static Acc zero() { return _mm512_setzero_si512(); }
  static Lhs broadcast(const Word* p) { return _mm512_set1_epi64(static_cast<long long>(*p)); }
  static Lhs lhs(Vec v) { return v; }
  static Rhs rhs(Vec v) { return v; }
  static void mac(Acc& acc, Lhs a, Rhs b) { acc = _mm512_add_epi64(acc, _mm512_mullo_epi64(a, b)); }
  static Vec finish(Acc acc) { return acc; }
  static Vec load(const Word* p) { return _mm512_loadu_si512(p); }
  static void store(Word* p, Vec v) { _mm512_storeu_si512(p, v); }
  static __mmask8 mask(std::size_t n) { return static_cast<__mmask8>((1U << n) - 1U); }
  static Vec load_part(const Word* p, std::size_t n) {
    return _mm512_maskz_loadu_epi64(mask(n), p);
  }
  static void store_part(Word* p, Vec v, std::size_t n) { _mm512_mask_storeu_epi64(p, mask(n), v); }
  static Vec add(Vec a, Vec b) { return _mm512_add_epi64(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_epi64(a, b); }
  static Word sum(Vec v) { return static_cast<Word>(_mm512_reduce_add_epi64(v)); }
};

struct Avx512U32 {
  using Word = std::uint32_t;
  static constexpr std::size_t kLanes = 16;
  using Vec = __m512i;
  using Lhs = __m512i;
  using Rhs = __m512i;
  using Acc = __m512i;

  static Acc zero() { return _mm512_setzero_si512(); }
  static Lhs broadcast(const Word* p) { return _mm512_set1_epi32(static_cast<int>(*p)); }
  static Lhs lhs(Vec v) { return v; }
  static Rhs rhs(Vec v) { return v; }
  static void mac(Acc& acc, Lhs a, Rhs b) { acc = _mm512_add_epi32(acc, _mm512_mullo_epi32(a, b)); }
  static Vec finish(Acc acc) { return acc; }
  static Vec load(const Word* p) { return _mm512_loadu_si512(p); }
  static void store(Word* p, Vec v) { _mm512_storeu_si512(p, v); }
  static __mmask16 mask(std::size_t n) { return static_cast<__mmask16>((1U << n) - 1U); }
  static Vec load_part(const Word* p, std::size_t n) {
    return _mm512_maskz_loadu_epi32(mask(n), p);
  }
  static void store_part(Word* p, Vec v, std::size_t n) { _mm512_mask_storeu_epi32(p, mask(n), v); }
  static Vec add(Vec a, Vec b) { return _mm512_add_epi32(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm512_sub_epi32(a, b); }
  static Word sum(Vec v) { return static_cast<Word>(_mm512_reduce_add_epi32(v)); }
};

}  // namespace
}  // namespace mpcc::ring::internal
