// GEMM from matrix tiles of bytes, for AMX (Intel SDM vol. 1, chapter 18) and its emulation.
//
// A word is cut into L = 4 or 8 unsigned bytes ("limbs"): a = sum_i a_i 2^(8i). Then
//   a b mod 2^(8L) = sum over s < L of 2^(8s) * sum over i <= s of a_i b_(s-i),
// so L(L+1)/2 byte products (36 for Z_2^64) give a word product; pairs with i + j >= L vanish. For
// each s a 32-bit accumulator sums over the block's depth and over i. It must not wrap while bits
// above 31 of the sum still matter, that is for 8s + 32 < 8L; with (s+1) products of at most 255^2
// per depth step, a depth of kDepth = 512 keeps it below 2^28.
//
// T is the tile unit: eight registers of 16 rows x 64 bytes, with
//   T unit;  configures, and releases in its destructor
//   unit.zero<r>(), unit.load<r>(const void*, pitch), unit.store<r>(void*, pitch),
//   unit.dot<c, a, b>()   c[m][n] += sum over k < 64 of a[m][k] * b[k / 4][4n + k % 4], u8 x u8
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "ring/gemm/kernel.h"

namespace mpcc::ring::internal {

template <RingWord W>
struct TileLayout {
  static constexpr std::size_t kLimbs = sizeof(W);
  static constexpr std::size_t kSide = 16;          // rows of a tile
  static constexpr std::size_t kStep = 64;          // depth of one tile product
  static constexpr std::size_t kTile = kSide * 64;  // bytes of a tile
  static constexpr std::size_t kPanel = 2 * kSide;  // rows or columns of a panel
  static constexpr std::size_t kDepth = 512;
  static_assert(kLimbs * 255 * 255 * kDepth < (std::uint64_t{1} << 32));

  // Byte offset of a tile in a panel: depth step, limb, upper or lower half of the panel.
  // Always inlined: the files that use this differ in compiler flags.
  __attribute__((always_inline)) static constexpr std::size_t at(std::size_t step, std::size_t limb,
                                                                 std::size_t half) {
    return ((step * kLimbs + limb) * 2 + half) * kTile;
  }
};

// Policy `Tag` is a type local to the including file, see generic.h on why.
template <class Tag, RingWord W>
void pack_lhs_tiles(const W* a, std::size_t lda, std::size_t rows, std::size_t k, W* out) {
  using L = TileLayout<W>;
  auto* bytes = reinterpret_cast<std::uint8_t*>(out);
  for (std::size_t k0 = 0, step = 0; k0 < k; k0 += L::kStep, ++step) {
    const std::size_t depth = k - k0 < L::kStep ? k - k0 : L::kStep;
    for (std::size_t r = 0; r < L::kPanel; ++r) {
      W line[L::kStep] = {};
      if (r < rows) std::memcpy(line, a + r * lda + k0, depth * sizeof(W));
      for (std::size_t limb = 0; limb < L::kLimbs; ++limb) {
        std::uint8_t* p = bytes + L::at(step, limb, r / L::kSide) + (r % L::kSide) * 64;
        for (std::size_t j = 0; j < L::kStep; ++j)
          p[j] = static_cast<std::uint8_t>(line[j] >> (8 * limb));
      }
    }
  }
}

// read(k, words): the panel's row k, kPanel words.
template <class Tag, RingWord W, class Read>
void pack_rhs_rows(std::size_t k, W* out, Read read) {
  using L = TileLayout<W>;
  auto* bytes = reinterpret_cast<std::uint8_t*>(out);
  for (std::size_t k0 = 0, step = 0; k0 < k; k0 += L::kStep, ++step) {
    for (std::size_t quad = 0; quad < L::kStep / 4; ++quad) {
      // Four rows of B, whose bytes lie side by side in the tile.
      W row[4][L::kPanel] = {};
      for (std::size_t i = 0; i < 4 && k0 + 4 * quad + i < k; ++i) read(k0 + 4 * quad + i, row[i]);
      for (std::size_t limb = 0; limb < L::kLimbs; ++limb) {
        const std::size_t shift = 8 * limb;
        std::uint32_t line[L::kPanel];
        for (std::size_t j = 0; j < L::kPanel; ++j)
          line[j] = static_cast<std::uint32_t>(
              ((row[0][j] >> shift) & 0xff) | (((row[1][j] >> shift) & 0xff) << 8) |
              (((row[2][j] >> shift) & 0xff) << 16) | (((row[3][j] >> shift) & 0xff) << 24));
        for (std::size_t half = 0; half < 2; ++half)
          std::memcpy(bytes + L::at(step, limb, half) + quad * 64, line + half * L::kSide, 64);
      }
    }
  }
}

template <class Tag, RingWord W>
void pack_rhs_tiles(const W* b, std::size_t ldb, std::size_t k, std::size_t cols, W* out) {
  pack_rhs_rows<Tag, W>(k, out, [&](std::size_t i, W* row) __attribute__((always_inline)) {
    std::memcpy(row, b + i * ldb, cols * sizeof(W));
  });
}

template <class Tag, RingWord W>
void gather_rhs_tiles(const W* x, const std::size_t* row, const std::size_t* column, std::size_t k,
                      W* out) {
  pack_rhs_rows<Tag, W>(k, out, [&](std::size_t i, W* words) __attribute__((always_inline)) {
    for (std::size_t j = 0; j < TileLayout<W>::kPanel; ++j) words[j] = x[row[i] + column[j]];
  });
}

template <class T, RingWord W>
void tile_product(std::size_t k, const W* lhs, const W* rhs, W* c, std::size_t ldc,
                  std::size_t rows, std::size_t cols, bool accumulate) {
  using L = TileLayout<W>;
  const auto* a = reinterpret_cast<const std::uint8_t*>(lhs);
  const auto* b = reinterpret_cast<const std::uint8_t*>(rhs);
  const std::size_t steps = (k + L::kStep - 1) / L::kStep;
  alignas(64) std::uint32_t part[L::kPanel * L::kPanel];
  alignas(64) W sum[L::kPanel * L::kPanel] = {};
  {
    T unit;
    for (std::size_t s = 0; s < L::kLimbs; ++s) {
      unit.template zero<0>();
      unit.template zero<1>();
      unit.template zero<2>();
      unit.template zero<3>();
      for (std::size_t step = 0; step < steps; ++step)
        for (std::size_t i = 0; i <= s; ++i) {
          unit.template load<4>(a + L::at(step, i, 0), 64);
          unit.template load<5>(a + L::at(step, i, 1), 64);
          unit.template load<6>(b + L::at(step, s - i, 0), 64);
          unit.template load<7>(b + L::at(step, s - i, 1), 64);
          unit.template dot<0, 4, 6>();
          unit.template dot<1, 4, 7>();
          unit.template dot<2, 5, 6>();
          unit.template dot<3, 5, 7>();
        }
      constexpr std::size_t kPitch = L::kPanel * sizeof(std::uint32_t);
      unit.template store<0>(part, kPitch);
      unit.template store<1>(part + L::kSide, kPitch);
      unit.template store<2>(part + L::kSide * L::kPanel, kPitch);
      unit.template store<3>(part + L::kSide * L::kPanel + L::kSide, kPitch);
      for (std::size_t i = 0; i < L::kPanel * L::kPanel; ++i)
        sum[i] += static_cast<W>(part[i]) << (8 * s);
    }
  }
  for (std::size_t i = 0; i < rows; ++i)
    for (std::size_t j = 0; j < cols; ++j) {
      const W v = sum[i * L::kPanel + j];
      c[i * ldc + j] = accumulate ? c[i * ldc + j] + v : v;
    }
}

// V gives the matrix-vector products, for which tiles are no use.
template <class T, class V>
constexpr GemmKernel<typename V::Word> make_tile_kernel(GemmKernel<typename V::Word> vector_kernel,
                                                        const char* name, Isa isa) {
  using W = typename V::Word;
  GemmKernel<W> kernel = vector_kernel;
  kernel.name = name;
  kernel.isa = isa;
  kernel.mr = TileLayout<W>::kPanel;
  kernel.nr = TileLayout<W>::kPanel;
  kernel.kq = TileLayout<W>::kStep;
  kernel.tail = 0;
  kernel.kc = TileLayout<W>::kDepth;
  kernel.mc = 256;
  kernel.nc = 256;
  kernel.pack_lhs = &pack_lhs_tiles<T, W>;
  kernel.pack_rhs = &pack_rhs_tiles<T, W>;
  kernel.gather_rhs = &gather_rhs_tiles<T, W>;
  kernel.tile = &tile_product<T, W>;
  return kernel;
}

// The tile unit in plain C++, so that all of the above is tested on every machine.
struct EmulatedTiles {
  template <int kR>
  void zero() {
    std::memset(tile[kR], 0, sizeof(tile[kR]));
  }
  template <int kR>
  void load(const void* p, std::size_t pitch) {
    for (std::size_t r = 0; r < 16; ++r)
      std::memcpy(tile[kR][r], static_cast<const std::uint8_t*>(p) + r * pitch, 64);
  }
  template <int kR>
  void store(void* p, std::size_t pitch) {
    for (std::size_t r = 0; r < 16; ++r)
      std::memcpy(static_cast<std::uint8_t*>(p) + r * pitch, tile[kR][r], 64);
  }
  template <int kC, int kA, int kB>
  void dot() {
    for (std::size_t m = 0; m < 16; ++m)
      for (std::size_t n = 0; n < 16; ++n) {
        std::uint32_t sum = 0;
        std::memcpy(&sum, &tile[kC][m][4 * n], 4);
        for (std::size_t k = 0; k < 64; ++k)
          sum += static_cast<std::uint32_t>(tile[kA][m][k]) * tile[kB][k / 4][4 * n + k % 4];
        std::memcpy(&tile[kC][m][4 * n], &sum, 4);
      }
  }

  std::uint8_t tile[8][16][64];
};

}  // namespace mpcc::ring::internal
