// AVX2 has no 64-bit multiply. With a = a1 2^32 + a0 and b alike,
//   a b mod 2^64 = a0 b0 + 2^32 (a0 b1 + a1 b0 mod 2^32),
// so two accumulators per four words: `lo` sums a0 b0 (vpmuludq, full 64 bits), `mid` sums the two
// cross products modulo 2^32 in the two halves of each word (one vpmulld of a with b's halves
// swapped). The halves of mid are added and shifted only once, after the sum. Two multiplications,
// two additions and a swap per four products of sums, which are eight products of words
// (generic.h).
#include <immintrin.h>

#include "ring/gemm/make_kernel.h"

namespace mpcc::ring::internal {
namespace {

__m256i load_bytes(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
void store_bytes(void* p, __m256i v) { _mm256_storeu_si256(static_cast<__m256i*>(p), v); }

struct Avx2U64 {
  using Word = std::uint64_t;
  static constexpr std::size_t kLanes = 4;
  using Vec = __m256i;
  using Lhs = __m256i;
  struct Rhs {
    __m256i v, swapped;
  };
  struct Acc {
    __m256i lo, mid;
  };

  static Acc zero() { return {_mm256_setzero_si256(), _mm256_setzero_si256()}; }
  static Lhs broadcast(const Word* p) { return _mm256_set1_epi64x(static_cast<long long>(*p)); }
  static Lhs lhs(Vec v) { return v; }
  static Rhs rhs(Vec v) { return {v, _mm256_shuffle_epi32(v, 0xb1)}; }
  static void mac(Acc& acc, Lhs a, Rhs b) {
    // As instructions, so that the sums stay where they are: gcc 12 otherwise moves them from
    // register to register in every step, or keeps a second copy on the stack, and the loop is
    // limited by the number of instructions that can begin per cycle.
    const __m256i low = _mm256_mul_epu32(a, b.v);
    const __m256i cross = _mm256_mullo_epi32(a, b.swapped);
    __asm__("vpaddq %1, %0, %0" : "+x"(acc.lo) : "x"(low));
    __asm__("vpaddd %1, %0, %0" : "+x"(acc.mid) : "x"(cross));
  }
  static Vec finish(Acc acc) {
    const __m256i cross = _mm256_add_epi32(acc.mid, _mm256_srli_epi64(acc.mid, 32));
    return _mm256_add_epi64(acc.lo, _mm256_slli_epi64(cross, 32));
  }
  static Vec load(const Word* p) { return load_bytes(p); }
  static void store(Word* p, Vec v) { store_bytes(p, v); }
  static __m256i mask(std::size_t n) {
    return _mm256_cmpgt_epi64(_mm256_set1_epi64x(static_cast<long long>(n)),
                              _mm256_setr_epi64x(0, 1, 2, 3));
  }
  static Vec load_part(const Word* p, std::size_t n) {
    return _mm256_maskload_epi64(reinterpret_cast<const long long*>(p), mask(n));
  }
  static void store_part(Word* p, Vec v, std::size_t n) {
    _mm256_maskstore_epi64(reinterpret_cast<long long*>(p), mask(n), v);
  }
  static Vec add(Vec a, Vec b) { return _mm256_add_epi64(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_epi64(a, b); }
  static Word sum(Vec v) {
    alignas(32) Word w[4];
    store(w, v);
    return w[0] + w[1] + w[2] + w[3];
  }
};

struct Avx2U32 {
  using Word = std::uint32_t;
  static constexpr std::size_t kLanes = 8;
  using Vec = __m256i;
  using Lhs = __m256i;
  using Rhs = __m256i;
  using Acc = __m256i;

  static Acc zero() { return _mm256_setzero_si256(); }
  static Lhs broadcast(const Word* p) { return _mm256_set1_epi32(static_cast<int>(*p)); }
  static Lhs lhs(Vec v) { return v; }
  static Rhs rhs(Vec v) { return v; }
  static void mac(Acc& acc, Lhs a, Rhs b) {
    const __m256i product = _mm256_mullo_epi32(a, b);
    __asm__("vpaddd %1, %0, %0" : "+x"(acc) : "x"(product));  // as above
  }
  static Vec finish(Acc acc) { return acc; }
  static Vec load(const Word* p) { return load_bytes(p); }
  static void store(Word* p, Vec v) { store_bytes(p, v); }
  static __m256i mask(std::size_t n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)),
                              _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static Vec load_part(const Word* p, std::size_t n) {
    return _mm256_maskload_epi32(reinterpret_cast<const int*>(p), mask(n));
  }
  static void store_part(Word* p, Vec v, std::size_t n) {
    _mm256_maskstore_epi32(reinterpret_cast<int*>(p), mask(n), v);
  }
  static Vec add(Vec a, Vec b) { return _mm256_add_epi32(a, b); }
  static Vec sub(Vec a, Vec b) { return _mm256_sub_epi32(a, b); }
  static Word sum(Vec v) {
    alignas(32) Word w[8];
    store(w, v);
    return w[0] + w[1] + w[2] + w[3] + w[4] + w[5] + w[6] + w[7];
  }
};

}  // namespace

// 5 x 1 sums of two registers, 2 right vectors and 4 for what is multiplied; 4 x 2 sums of one, 2 x
// 2 right vectors and 4. Seven and four vector instructions per right vector and two depths.
constexpr GemmKernel<std::uint64_t> avx2_u64 =
    make_vector_kernel<Avx2U64, 5, 1>("avx2", Isa::avx2, 192);
constexpr GemmKernel<std::uint32_t> avx2_u32 =
    make_vector_kernel<Avx2U32, 4, 2>("avx2", Isa::avx2, 256);

}  // namespace mpcc::ring::internal
