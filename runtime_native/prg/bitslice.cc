// AES-128 without AES instructions, in constant time: no table, no branch and no address depends on
// a key or a counter.
//
// Bit-sliced in the manner of E. Kasper and P. Schwabe, "Faster and Timing-Attack Resistant
// AES-GCM" (CHES 2009), in another arrangement: eight words of 64 bits hold four blocks, word k bit
// k of every byte, and
//
//   bit 16 * row + 4 * column + block   of a word is that bit of byte (row, column) of a block,
//
// so that ShiftRows turns nibbles inside the 16 bits of a row, and MixColumns takes its neighbours
// from the word turned by 16 and by 32. The words are lanes of a two-lane vector: eight blocks go
// through at once, on SSE2 and NEON in one register per word, elsewhere in two.
#include <cstdint>
#include <cstring>

#include "base/secret_buffer.h"
#include "prg/kernels.h"

namespace mpcc::prg::internal {
namespace {

constexpr int kRounds = 10;
constexpr std::size_t kLanes = 2;
constexpr std::size_t kWidth = 4 * kLanes;  // blocks at once

using Word = std::uint64_t __attribute__((vector_size(8 * kLanes)));
using Planes = Word[8];

// SubBytes on all bit positions of eight words, q[k] holding bit k: the circuit of J. Boyar and
// R. Peralta, "A depth-16 circuit for the AES S-box" (ePrint 2011/332), its first linear layer,
// inversion in GF(2^4) over GF(2^2), and last linear layer; in its own names, x0 being the highest
// bit. 128 gates, no constants but the complements at the end.
template <class T>
inline __attribute__((always_inline)) void sub_bytes(T (&q)[8]) {
  const T x0 = q[7], x1 = q[6], x2 = q[5], x3 = q[4], x4 = q[3], x5 = q[2], x6 = q[1], x7 = q[0];

  const T y14 = x3 ^ x5, y13 = x0 ^ x6, y9 = x0 ^ x3, y8 = x0 ^ x5, t0 = x1 ^ x2;
  const T y1 = t0 ^ x7, y4 = y1 ^ x3, y12 = y13 ^ y14, y2 = y1 ^ x0, y5 = y1 ^ x6;
  const T y3 = y5 ^ y8, t1 = x4 ^ y12, y15 = t1 ^ x5, y20 = t1 ^ x1, y6 = y15 ^ x7;
  const T y10 = y15 ^ t0, y11 = y20 ^ y9, y7 = x7 ^ y11, y17 = y10 ^ y11, y19 = y10 ^ y8;
  const T y16 = t0 ^ y11, y21 = y13 ^ y16, y18 = x0 ^ y16;

  const T t2 = y12 & y15, t3 = y3 & y6, t4 = t3 ^ t2, t5 = y4 & x7, t6 = t5 ^ t2;
  const T t7 = y13 & y16, t8 = y5 & y1, t9 = t8 ^ t7, t10 = y2 & y7, t11 = t10 ^ t7;
  const T t12 = y9 & y11, t13 = y14 & y17, t14 = t13 ^ t12, t15 = y8 & y10, t16 = t15 ^ t12;
  const T t17 = t4 ^ t14, t18 = t6 ^ t16, t19 = t9 ^ t14, t20 = t11 ^ t16;
  const T t21 = t17 ^ y20, t22 = t18 ^ y19, t23 = t19 ^ y21, t24 = t20 ^ y18;

  const T t25 = t21 ^ t22, t26 = t21 & t23, t27 = t24 ^ t26, t28 = t25 & t27, t29 = t28 ^ t22;
  const T t30 = t23 ^ t24, t31 = t22 ^ t26, t32 = t31 & t30, t33 = t32 ^ t24, t34 = t23 ^ t33;
  const T t35 = t27 ^ t33, t36 = t24 & t35, t37 = t36 ^ t34, t38 = t27 ^ t36, t39 = t29 & t38;
  const T t40 = t25 ^ t39, t41 = t40 ^ t37, t42 = t29 ^ t33, t43 = t29 ^ t40;
  const T t44 = t33 ^ t37, t45 = t42 ^ t41;

  const T z0 = t44 & y15, z1 = t37 & y6, z2 = t33 & x7, z3 = t43 & y16, z4 = t40 & y1;
  const T z5 = t29 & y7, z6 = t42 & y11, z7 = t45 & y17, z8 = t41 & y10, z9 = t44 & y12;
  const T z10 = t37 & y3, z11 = t33 & y4, z12 = t43 & y13, z13 = t40 & y5, z14 = t29 & y2;
  const T z15 = t42 & y9, z16 = t45 & y14, z17 = t41 & y8;

  const T t46 = z15 ^ z16, t47 = z10 ^ z11, t48 = z5 ^ z13, t49 = z9 ^ z10, t50 = z2 ^ z12;
  const T t51 = z2 ^ z5, t52 = z7 ^ z8, t53 = z0 ^ z3, t54 = z6 ^ z7, t55 = z16 ^ z17;
  const T t56 = z12 ^ t48, t57 = t50 ^ t53, t58 = z4 ^ t46, t59 = z3 ^ t54, t60 = t46 ^ t57;
  const T t61 = z14 ^ t57, t62 = t52 ^ t58, t63 = t49 ^ t58, t64 = z4 ^ t59, t65 = t61 ^ t62;
  const T t66 = z1 ^ t63, t67 = t64 ^ t65, s3 = t53 ^ t66;
  q[7] = t59 ^ t63;
  q[6] = ~(t64 ^ s3);
  q[5] = ~(t55 ^ t67);
  q[4] = s3;
  q[3] = t51 ^ t66;
  q[2] = t47 ^ t65;
  q[1] = ~(t56 ^ t62);
  q[0] = ~(t48 ^ t60);
}

// ShiftRows: row r goes r columns to the left, which is 4r bits down inside its 16.
inline Word shift_rows(Word x) {
  return (x & 0x000000000000ffffULL) |                                               //
         ((x >> 4) & 0x000000000fff0000ULL) | ((x << 12) & 0x00000000f0000000ULL) |  //
         ((x >> 8) & 0x000000ff00000000ULL) | ((x << 8) & 0x0000ff0000000000ULL) |   //
         ((x >> 12) & 0x000f000000000000ULL) | ((x << 4) & 0xfff0000000000000ULL);
}

// The word of the rows below (r + 1, r + 2), cyclically.
inline Word below(Word x) { return (x >> 16) | (x << 48); }
inline Word two_below(Word x) { return (x >> 32) | (x << 32); }

// MixColumns: 2 a(r) + 3 a(r+1) + a(r+2) + a(r+3) = 2 (a(r) + a(r+1)) + a(r+1) + (a + a')(r+2).
inline void mix_columns(Planes& q) {
  Planes sum, next;
  for (int k = 0; k < 8; ++k) {
    next[k] = below(q[k]);
    sum[k] = q[k] ^ next[k];
  }
  const Word carry = sum[7];  // x^8 = x^4 + x^3 + x + 1
  for (int k = 0; k < 8; ++k) {
    Word doubled = k == 0 ? carry : sum[k - 1];
    if (k == 1 || k == 3 || k == 4) doubled ^= carry;
    q[k] = doubled ^ next[k] ^ two_below(sum[k]);
  }
}

// Exchanges the bits of x at the complement of `mask` with those of y at `mask`, s bits apart.
inline void swap_bits(Word& x, Word& y, std::uint64_t mask, int s) {
  const Word t = ((x >> s) ^ y) & mask;
  y ^= t;
  x ^= t << s;
}

// Bit 8g + k of word j to bit 8g + j of word k: eight-by-eight transpositions. Its own inverse.
inline void transpose(Planes& q) {
  for (int i = 0; i < 8; i += 2) swap_bits(q[i], q[i + 1], 0x5555555555555555ULL, 1);
  for (const int i : {0, 1, 4, 5}) swap_bits(q[i], q[i + 2], 0x3333333333333333ULL, 2);
  for (int i = 0; i < 4; ++i) swap_bits(q[i], q[i + 4], 0x0f0f0f0f0f0f0f0fULL, 4);
}

// The four bytes of a column to the even bytes of a word, and back.
inline std::uint64_t spread(std::uint32_t column) {
  std::uint64_t x = column;
  x = (x | (x << 16)) & 0x0000ffff0000ffffULL;
  return (x | (x << 8)) & 0x00ff00ff00ff00ffULL;
}
inline std::uint32_t gather(std::uint64_t x) {
  x &= 0x00ff00ff00ff00ffULL;
  x = (x | (x >> 8)) & 0x0000ffff0000ffffULL;
  return static_cast<std::uint32_t>(x | (x >> 16));
}

// kWidth blocks, `step` bytes apart (0: the same block everywhere), into planes.
inline void load(Planes& q, const std::uint8_t* in, std::size_t step) {
  std::uint64_t words[8][kLanes];
  for (std::size_t b = 0; b < kWidth; ++b) {
    std::uint32_t column[4];
    std::memcpy(column, in + b * step, 16);
    for (std::size_t c = 0; c < 2; ++c)
      words[4 * c + b % 4][b / 4] = spread(column[c]) | (spread(column[c + 2]) << 8);
  }
  std::memcpy(q, words, sizeof words);
  transpose(q);
}

inline void store(Planes& q, std::uint8_t* out) {
  transpose(q);
  std::uint64_t words[8][kLanes];
  std::memcpy(words, q, sizeof words);
  for (std::size_t b = 0; b < kWidth; ++b) {
    std::uint32_t column[4];
    for (std::size_t c = 0; c < 2; ++c) {
      const std::uint64_t x = words[4 * c + b % 4][b / 4];
      column[c] = gather(x);
      column[c + 2] = gather(x >> 8);
    }
    std::memcpy(out + 16 * b, column, 16);
  }
}

// The round keys as planes, overwritten at the end.
struct RoundKeys {
  explicit RoundKeys(const std::uint8_t* schedule) {
    for (std::size_t r = 0; r <= kRounds; ++r) load(round[r], schedule + 16 * r, 0);
  }
  ~RoundKeys() { secure_zero(round, sizeof round); }
  RoundKeys(const RoundKeys&) = delete;
  RoundKeys& operator=(const RoundKeys&) = delete;

  Planes round[kRounds + 1];
};

inline void add_key(Planes& q, const Planes& key) {
  for (int k = 0; k < 8; ++k) q[k] ^= key[k];
}

void encrypt(const RoundKeys& keys, Planes& q) {
  add_key(q, keys.round[0]);
  for (int r = 1; r <= kRounds; ++r) {
    sub_bytes(q);
    for (Word& x : q) x = shift_rows(x);
    if (r != kRounds) mix_columns(q);
    add_key(q, keys.round[r]);
  }
}

// S-box on the four bytes of a word: bits 0 to 3 of the planes.
std::uint32_t sub_word(std::uint32_t word) {
  std::uint64_t q[8] = {};
  for (int k = 0; k < 8; ++k)
    for (int i = 0; i < 4; ++i) q[k] |= std::uint64_t{(word >> (8 * i + k)) & 1U} << i;
  sub_bytes(q);
  std::uint32_t out = 0;
  for (int k = 0; k < 8; ++k)
    for (int i = 0; i < 4; ++i) out |= (static_cast<std::uint32_t>(q[k] >> i) & 1U) << (8 * i + k);
  secure_zero(q, sizeof q);
  return out;
}

// FIPS 197, section 5.2.
void expand_key(const std::uint8_t* key, std::uint8_t* schedule) {
  std::uint32_t w[4];
  std::memcpy(w, key, 16);
  std::memcpy(schedule, w, 16);
  std::uint32_t constant = 1;
  for (std::size_t r = 1; r <= kRounds; ++r) {
    w[0] ^= sub_word((w[3] >> 8) | (w[3] << 24)) ^ constant;
    for (int i = 1; i < 4; ++i) w[i] ^= w[i - 1];
    std::memcpy(schedule + 16 * r, w, 16);
    constant = (constant << 1) ^ ((constant >> 7) * 0x11bU);
  }
  secure_zero(w, sizeof w);
}

void encrypt_block(const std::uint8_t* schedule, const std::uint8_t* in, std::uint8_t* out) {
  const RoundKeys keys(schedule);
  Planes q;
  load(q, in, 0);
  encrypt(keys, q);
  std::uint8_t blocks[16 * kWidth];
  store(q, blocks);
  std::memcpy(out, blocks, 16);
  secure_zero(blocks, sizeof blocks);
}

void keystream(const std::uint8_t* schedule, std::uint64_t stream, std::uint64_t first_block,
               std::uint8_t* out, std::size_t blocks) {
  if (blocks == 0) return;
  const RoundKeys keys(schedule);
  std::uint64_t counters[2 * kWidth];
  std::uint8_t last[16 * kWidth];
  while (blocks > 0) {
    for (std::size_t b = 0; b < kWidth; ++b) {
      counters[2 * b] = stream;
      counters[2 * b + 1] = first_block + b;
    }
    Planes q;
    load(q, reinterpret_cast<const std::uint8_t*>(counters), 16);
    encrypt(keys, q);
    if (blocks < kWidth) {
      store(q, last);
      std::memcpy(out, last, 16 * blocks);
      break;
    }
    store(q, out);
    out += 16 * kWidth;
    first_block += kWidth;
    blocks -= kWidth;
  }
  secure_zero(last, sizeof last);
}

}  // namespace

constexpr AesKernel kernel_bitslice = {.name = "bitslice",
                                       .isa = Isa::scalar,
                                       .vectors = Isa::scalar,
                                       .needs_aesni = false,
                                       .needs_vaes = false,
                                       .expand_key = &expand_key,
                                       .encrypt_block = &encrypt_block,
                                       .keystream = &keystream};

}  // namespace mpcc::prg::internal
