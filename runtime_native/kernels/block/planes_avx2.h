// Between words and planes of bits with AVX2: transpositions of bytes and bits. Part of generic.h,
// compiled with the variant's flags and in its namespace.
#pragma once

#include <immintrin.h>

#include <cstddef>
#include <cstdint>

namespace mpcc::kernels::MPCC_VARIANT {
namespace {

// Byte columns of 32 words: out[k] holds byte k of the words x[0..31] >> shift, in order.
inline void byte_columns(const std::uint64_t* x, int shift, int columns, __m256i* out) {
  const __m256i pairs = _mm256_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15,  //
                                         0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15);
  const __m128i count = _mm_cvtsi32_si128(shift);
  __m256i v[8];
  for (int i = 0; i < 8; ++i) {
    // Low half: words 2i, 2i+1; high half: words 16+2i, 16+2i+1.
    const __m128i lo = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 2 * i));
    const __m128i hi = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 16 + 2 * i));
    v[i] = _mm256_shuffle_epi8(_mm256_srl_epi64(_mm256_set_m128i(hi, lo), count), pairs);
  }
  __m256i q[8];  // 4 lanes: q[2i] bytes 0..3, q[2i+1] bytes 4..7
  for (int i = 0; i < 4; ++i) {
    q[2 * i] = _mm256_unpacklo_epi16(v[2 * i], v[2 * i + 1]);
    q[2 * i + 1] = _mm256_unpackhi_epi16(v[2 * i], v[2 * i + 1]);
  }
  for (int h = 0; h < 2; ++h) {
    if (4 * h >= columns) break;
    const __m256i a0 = _mm256_unpacklo_epi32(q[h], q[2 + h]);
    const __m256i a1 = _mm256_unpackhi_epi32(q[h], q[2 + h]);
    const __m256i b0 = _mm256_unpacklo_epi32(q[4 + h], q[6 + h]);
    const __m256i b1 = _mm256_unpackhi_epi32(q[4 + h], q[6 + h]);
    out[4 * h] = _mm256_unpacklo_epi64(a0, b0);
    out[4 * h + 1] = _mm256_unpackhi_epi64(a0, b0);
    out[4 * h + 2] = _mm256_unpacklo_epi64(a1, b1);
    out[4 * h + 3] = _mm256_unpackhi_epi64(a1, b1);
  }
}

inline void byte_columns(const std::uint32_t* x, int shift, int, __m256i* out) {
  const __m256i bytes = _mm256_setr_epi8(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15,  //
                                         0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
  const __m128i count = _mm_cvtsi32_si128(shift);
  __m256i v[4];  // 32-bit item k of a half: byte k of four words
  for (int i = 0; i < 4; ++i) {
    // Low half: words 4i .. 4i+3; high half: words 16+4i .. 16+4i+3.
    const __m128i lo = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 4 * i));
    const __m128i hi = _mm_loadu_si128(reinterpret_cast<const __m128i*>(x + 16 + 4 * i));
    v[i] = _mm256_shuffle_epi8(_mm256_srl_epi32(_mm256_set_m128i(hi, lo), count), bytes);
  }
  const __m256i a0 = _mm256_unpacklo_epi32(v[0], v[1]);
  const __m256i a1 = _mm256_unpackhi_epi32(v[0], v[1]);
  const __m256i b0 = _mm256_unpacklo_epi32(v[2], v[3]);
  const __m256i b1 = _mm256_unpackhi_epi32(v[2], v[3]);
  out[0] = _mm256_unpacklo_epi64(a0, b0);
  out[1] = _mm256_unpackhi_epi64(a0, b0);
  out[2] = _mm256_unpacklo_epi64(a1, b1);
  out[3] = _mm256_unpackhi_epi64(a1, b1);
}

// Eight planes of 256 lanes, planes that lie `bytes` apart, as bytes: out[m] has those of lanes
// 16 m .. 16 m + 15 in its low half and of 128 + 16 m .. in its high half. Absent planes are zeros.
inline void bytes_of_planes(const std::uint8_t* in, std::size_t bytes, std::size_t planes,
                            __m256i* out) {
  __m256i row[8];
  for (std::size_t p = 0; p < 8; ++p)
    row[p] = p < planes ? _mm256_loadu_si256(reinterpret_cast<const __m256i*>(in + p * bytes))
                        : _mm256_setzero_si256();
  // Eight rows of 32 bytes to 32 words of eight bytes.
  __m256i pair[8];
  for (int i = 0; i < 4; ++i) {
    pair[i] = _mm256_unpacklo_epi8(row[2 * i], row[2 * i + 1]);
    pair[4 + i] = _mm256_unpackhi_epi8(row[2 * i], row[2 * i + 1]);
  }
  for (int h = 0; h < 2; ++h) {
    const __m256i* q = pair + 4 * h;
    const __m256i a0 = _mm256_unpacklo_epi16(q[0], q[1]);
    const __m256i a1 = _mm256_unpackhi_epi16(q[0], q[1]);
    const __m256i b0 = _mm256_unpacklo_epi16(q[2], q[3]);
    const __m256i b1 = _mm256_unpackhi_epi16(q[2], q[3]);
    out[4 * h] = _mm256_unpacklo_epi32(a0, b0);
    out[4 * h + 1] = _mm256_unpackhi_epi32(a0, b0);
    out[4 * h + 2] = _mm256_unpacklo_epi32(a1, b1);
    out[4 * h + 3] = _mm256_unpackhi_epi32(a1, b1);
  }
  // Every word is a matrix of 8 x 8 bits, which is transposed (Warren, Hacker's Delight, 7-3).
  const auto swap = [](__m256i x, int by, long long mask) __attribute__((always_inline)) {
    const __m128i n = _mm_cvtsi32_si128(by);
    const __m256i t =
        _mm256_and_si256(_mm256_xor_si256(x, _mm256_srl_epi64(x, n)), _mm256_set1_epi64x(mask));
    return _mm256_xor_si256(x, _mm256_xor_si256(t, _mm256_sll_epi64(t, n)));
  };
  for (int m = 0; m < 8; ++m)
    out[m] = swap(swap(swap(out[m], 7, 0x00aa00aa00aa00aaLL), 14, 0x0000cccc0000ccccLL), 28,
                  0x00000000f0f0f0f0LL);
}

inline void store_halves(std::uint64_t* low, std::uint64_t* high, __m256i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm256_castsi256_si128(v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), _mm256_extracti128_si256(v, 1));
}
inline void store_halves(std::uint32_t* low, std::uint32_t* high, __m256i v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(low), _mm256_castsi256_si128(v));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(high), _mm256_extracti128_si256(v, 1));
}

// z[0, 16) and z[128, 144) of words whose bytes stand in columns, as bytes_of_planes has them.
inline void words_of_columns(const __m256i* c, std::uint64_t* z) {
  for (int h = 0; h < 2; ++h) {
    __m256i pair[4];
    for (int i = 0; i < 4; ++i)
      pair[i] = h == 0 ? _mm256_unpacklo_epi8(c[2 * i], c[2 * i + 1])
                       : _mm256_unpackhi_epi8(c[2 * i], c[2 * i + 1]);
    for (int g = 0; g < 2; ++g) {
      const __m256i low = g == 0 ? _mm256_unpacklo_epi16(pair[0], pair[1])
                                 : _mm256_unpackhi_epi16(pair[0], pair[1]);
      const __m256i high = g == 0 ? _mm256_unpacklo_epi16(pair[2], pair[3])
                                  : _mm256_unpackhi_epi16(pair[2], pair[3]);
      std::uint64_t* to = z + 8 * h + 4 * g;
      store_halves(to, to + 128, _mm256_unpacklo_epi32(low, high));
      store_halves(to + 2, to + 130, _mm256_unpackhi_epi32(low, high));
    }
  }
}
inline void words_of_columns(const __m256i* c, std::uint32_t* z) {
  for (int h = 0; h < 2; ++h) {
    const __m256i low =
        h == 0 ? _mm256_unpacklo_epi8(c[0], c[1]) : _mm256_unpackhi_epi8(c[0], c[1]);
    const __m256i high =
        h == 0 ? _mm256_unpacklo_epi8(c[2], c[3]) : _mm256_unpackhi_epi8(c[2], c[3]);
    std::uint32_t* to = z + 8 * h;
    store_halves(to, to + 128, _mm256_unpacklo_epi16(low, high));
    store_halves(to + 4, to + 132, _mm256_unpackhi_epi16(low, high));
  }
}

}  // namespace
}  // namespace mpcc::kernels::MPCC_VARIANT
