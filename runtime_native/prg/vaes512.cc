#include <immintrin.h>

#include "prg/generic.h"
#include "prg/kernels.h"

namespace mpcc::prg::internal {
namespace {

struct Zmm {
  using Reg = __m512i;
  static constexpr int kBlocks = 4;
  static Reg counters(std::uint64_t stream, std::uint64_t block) {
    const auto s = static_cast<long long>(stream);
    const auto b = static_cast<long long>(block);
    return add_each(_mm512_set_epi64(b, s, b, s, b, s, b, s));
  }
  static Reg add(Reg c, int n) {
    return _mm512_add_epi64(c, _mm512_set_epi64(n, 0, n, 0, n, 0, n, 0));
  }
  static Reg key(const std::uint8_t* p) {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(p)));
  }
  static Reg xor_(Reg a, Reg b) { return _mm512_xor_si512(a, b); }
  static Reg round(Reg x, Reg k) { return _mm512_aesenc_epi128(x, k); }
  static Reg last_round(Reg x, Reg k) { return _mm512_aesenclast_epi128(x, k); }
  static void store(std::uint8_t* p, Reg x) { _mm512_storeu_si512(p, x); }

 private:
  static Reg add_each(Reg c) {
    return _mm512_add_epi64(c, _mm512_set_epi64(3, 0, 2, 0, 1, 0, 0, 0));
  }
};

}  // namespace

constexpr AesKernel kernel_vaes512 = {.name = "vaes512",
                                      .isa = Isa::avx512,
                                      .vectors = Isa::avx512,
                                      .needs_aesni = true,
                                      .needs_vaes = true,
                                      .expand_key = &expand_key_aesni,
                                      .encrypt_block = &encrypt_block_aesni,
                                      .keystream = &keystream<Zmm, 8>};

}  // namespace mpcc::prg::internal
