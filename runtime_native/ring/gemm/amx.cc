#include <immintrin.h>

#include "ring/gemm/avx512_vec.h"
#include "ring/gemm/tiles.h"

namespace mpcc::ring::internal {
namespace {

// gcc 12's tile loads do not tell the compiler that they read memory; the barriers keep the packing
// stores before them.
void memory_barrier() { __asm__ __volatile__("" : : : "memory"); }

// The tile intrinsics paste their register number into the mnemonic, so it must be a literal.
struct HardwareTiles {
  HardwareTiles() {
    struct alignas(64) {
      std::uint8_t palette = 1;
      std::uint8_t start_row = 0;
      std::uint8_t reserved[14] = {};
      std::uint16_t row_bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
      std::uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
    } config;
    static_assert(sizeof(config) == 64);
    memory_barrier();
    _tile_loadconfig(&config);
  }
  ~HardwareTiles() { _tile_release(); }
  HardwareTiles(const HardwareTiles&) = delete;
  HardwareTiles& operator=(const HardwareTiles&) = delete;

  template <int kR>
  void zero() {
    static_assert(kR >= 0 && kR <= 3);
    if constexpr (kR == 0) _tile_zero(0);
    if constexpr (kR == 1) _tile_zero(1);
    if constexpr (kR == 2) _tile_zero(2);
    if constexpr (kR == 3) _tile_zero(3);
  }
  template <int kR>
  void load(const void* p, std::size_t pitch) {
    static_assert(kR >= 4 && kR <= 7);
    memory_barrier();
    if constexpr (kR == 4) _tile_loadd(4, p, pitch);
    if constexpr (kR == 5) _tile_loadd(5, p, pitch);
    if constexpr (kR == 6) _tile_loadd(6, p, pitch);
    if constexpr (kR == 7) _tile_loadd(7, p, pitch);
  }
  template <int kR>
  void store(void* p, std::size_t pitch) {
    static_assert(kR >= 0 && kR <= 3);
    if constexpr (kR == 0) _tile_stored(0, p, pitch);
    if constexpr (kR == 1) _tile_stored(1, p, pitch);
    if constexpr (kR == 2) _tile_stored(2, p, pitch);
    if constexpr (kR == 3) _tile_stored(3, p, pitch);
    memory_barrier();
  }
  template <int kC, int kA, int kB>
  void dot() {
    static_assert(kC == 2 * (kA - 4) + (kB - 6));
    if constexpr (kC == 0) _tile_dpbuud(0, 4, 6);
    if constexpr (kC == 1) _tile_dpbuud(1, 4, 7);
    if constexpr (kC == 2) _tile_dpbuud(2, 5, 6);
    if constexpr (kC == 3) _tile_dpbuud(3, 5, 7);
  }
};

}  // namespace

constexpr GemmKernel<std::uint64_t> amx_u64 = make_tile_kernel<HardwareTiles, Avx512U64>(
    make_vector_kernel<Avx512U64, 8, 2>("", Isa::avx512), "amx", Isa::amx);
constexpr GemmKernel<std::uint32_t> amx_u32 = make_tile_kernel<HardwareTiles, Avx512U32>(
    make_vector_kernel<Avx512U32, 8, 2>("", Isa::avx512), "amx", Isa::amx);

}  // namespace mpcc::ring::internal
