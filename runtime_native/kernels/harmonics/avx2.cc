#include <immintrin.h>

#include "kernels/harmonics/variant.h"

namespace mpcc::kernels {
namespace {

struct Vec {
  using V = __m256i;
  static constexpr std::size_t kLanes = 4;
  static V all(std::int64_t x) { return _mm256_set1_epi64x(x); }
  static V load(const std::int64_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static V load(const std::uint64_t* p) {
    return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  }
  static V load(const std::uint32_t* p) {
    return _mm256_cvtepu32_epi64(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static void store(std::int64_t* p, V x) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x); }
  static void store(std::uint64_t* p, V x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
  }
  static void store(std::uint32_t* p, V x) {
    const V low = _mm256_permutevar8x32_epi32(x, _mm256_setr_epi32(0, 2, 4, 6, 0, 2, 4, 6));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm256_castsi256_si128(low));
  }
  static V add(V a, V b) { return _mm256_add_epi64(a, b); }
  static V sub(V a, V b) { return _mm256_sub_epi64(a, b); }
  static V mul(V a, V b) { return _mm256_mul_epi32(a, b); }
  static V right(V a, int bits) { return _mm256_srl_epi64(a, _mm_cvtsi32_si128(bits)); }
  static V left(V a, int bits) { return _mm256_sll_epi64(a, _mm_cvtsi32_si128(bits)); }
  static V both(V a, V b) { return _mm256_and_si256(a, b); }
  static V differ(V a, V b) { return _mm256_xor_si256(a, b); }
};

#include "kernels/harmonics/generic.h"

}  // namespace

extern const HarmonicVariant kHarmonicAvx2;
const HarmonicVariant kHarmonicAvx2 =
    make_variant("avx2", Isa::avx2, [](const CpuFeatures& cpu) { return cpu.supports(Isa::avx2); });

}  // namespace mpcc::kernels
