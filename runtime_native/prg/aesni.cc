#include <immintrin.h>

#include "prg/generic.h"
#include "prg/kernels.h"

namespace mpcc::prg::internal {
namespace {

struct Xmm {
  using Reg = __m128i;
  static constexpr int kBlocks = 1;
  static Reg counters(std::uint64_t stream, std::uint64_t block) {
    return _mm_set_epi64x(static_cast<long long>(block), static_cast<long long>(stream));
  }
  static Reg add(Reg c, int n) { return _mm_add_epi64(c, _mm_set_epi64x(n, 0)); }
  static Reg key(const std::uint8_t* p) {
    return _mm_load_si128(reinterpret_cast<const __m128i*>(p));
  }
  static Reg xor_(Reg a, Reg b) { return _mm_xor_si128(a, b); }
  static Reg round(Reg x, Reg k) { return _mm_aesenc_si128(x, k); }
  static Reg last_round(Reg x, Reg k) { return _mm_aesenclast_si128(x, k); }
  static void store(std::uint8_t* p, Reg x) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), x); }
};

template <int kRcon>
__m128i next_round_key(__m128i k) {
  const __m128i t = _mm_shuffle_epi32(_mm_aeskeygenassist_si128(k, kRcon), 0xff);
  k = _mm_xor_si128(k, _mm_slli_si128(k, 4));
  k = _mm_xor_si128(k, _mm_slli_si128(k, 8));
  return _mm_xor_si128(k, t);
}

}  // namespace

void expand_key_aesni(const std::uint8_t* key, std::uint8_t* schedule) {
  auto* out = reinterpret_cast<__m128i*>(schedule);
  __m128i k = _mm_loadu_si128(reinterpret_cast<const __m128i*>(key));
  _mm_store_si128(out + 0, k);
  _mm_store_si128(out + 1, k = next_round_key<0x01>(k));
  _mm_store_si128(out + 2, k = next_round_key<0x02>(k));
  _mm_store_si128(out + 3, k = next_round_key<0x04>(k));
  _mm_store_si128(out + 4, k = next_round_key<0x08>(k));
  _mm_store_si128(out + 5, k = next_round_key<0x10>(k));
  _mm_store_si128(out + 6, k = next_round_key<0x20>(k));
  _mm_store_si128(out + 7, k = next_round_key<0x40>(k));
  _mm_store_si128(out + 8, k = next_round_key<0x80>(k));
  _mm_store_si128(out + 9, k = next_round_key<0x1b>(k));
  _mm_store_si128(out + 10, next_round_key<0x36>(k));
}

void encrypt_block_aesni(const std::uint8_t* schedule, const std::uint8_t* in, std::uint8_t* out) {
  __m128i x = _mm_loadu_si128(reinterpret_cast<const __m128i*>(in));
  x = Xmm::xor_(x, Xmm::key(schedule));
  for (int r = 1; r < kRounds; ++r) x = Xmm::round(x, Xmm::key(schedule + 16 * r));
  Xmm::store(out, Xmm::last_round(x, Xmm::key(schedule + 16 * kRounds)));
}

constexpr AesKernel kernel_aesni = {.name = "aesni",
                                    .isa = Isa::avx2,
                                    .vectors = Isa::scalar,
                                    .needs_aesni = true,
                                    .needs_vaes = false,
                                    .expand_key = &expand_key_aesni,
                                    .encrypt_block = &encrypt_block_aesni,
                                    .keystream = &keystream<Xmm, 8>};

}  // namespace mpcc::prg::internal
