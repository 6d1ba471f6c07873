#include <immintrin.h>

#include "prg/generic.h"
#include "prg/kernels.h"

namespace mpcc::prg::internal {
namespace {

struct Ymm {
  using Reg = __m256i;
  static constexpr int kBlocks = 2;
  static Reg counters(std::uint64_t stream, std::uint64_t block) {
    const auto s = static_cast<long long>(stream);
    return _mm256_set_epi64x(static_cast<long long>(block + 1), s, static_cast<long long>(block),
                             s);
  }
  static Reg add(Reg c, int n) { return _mm256_add_epi64(c, _mm256_set_epi64x(n, 0, n, 0)); }
  static Reg key(const std::uint8_t* p) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Reg xor_(Reg a, Reg b) { return _mm256_xor_si256(a, b); }
  static Reg round(Reg x, Reg k) { return _mm256_aesenc_epi128(x, k); }
  static Reg last_round(Reg x, Reg k) { return _mm256_aesenclast_epi128(x, k); }
  static void store(std::uint8_t* p, Reg x) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), x);
  }
};

}  // namespace

constexpr AesKernel kernel_vaes256 = {.name = "vaes256",
                                      .isa = Isa::avx2,
                                      .vectors = Isa::avx2,
                                      .needs_aesni = true,
                                      .needs_vaes = true,
                                      .expand_key = &expand_key_aesni,
                                      .encrypt_block = &encrypt_block_aesni,
                                      .keystream = &keystream<Ymm, 8>};

}  // namespace mpcc::prg::internal
