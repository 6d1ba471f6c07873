// The counter-mode loop, written once for all vector widths. V is a policy of an instruction-set
// file (in its unnamed namespace, so every instantiation is local to that file):
//   V::Reg, V::kBlocks              a register and how many AES blocks it holds
//   V::counters(stream, block)      blocks stream || block, stream || block + 1, ...
//   V::add(c, n)                    block indices advanced by n
//   V::key(p)                       one 16-byte round key in every block
//   V::xor_, V::round, V::last_round, V::store
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace mpcc::prg::internal {

inline constexpr int kRounds = 10;

template <class V, int kUnroll>
inline __attribute__((always_inline)) void encrypt_counters(const std::uint8_t* schedule,
                                                            typename V::Reg first,
                                                            typename V::Reg (&x)[kUnroll]) {
  // Makes the key pointer opaque, so that the round keys are loaded from the schedule each time (a
  // load is free here) instead of being hoisted and spilled: no copies of the key on the stack.
  __asm__("" : "+r"(schedule));
  const auto k0 = V::key(schedule);
#pragma GCC unroll 16
  for (int i = 0; i < kUnroll; ++i) x[i] = V::xor_(V::add(first, i * V::kBlocks), k0);
#pragma GCC unroll 16
  for (int r = 1; r < kRounds; ++r) {
    const auto k = V::key(schedule + 16 * r);
#pragma GCC unroll 16
    for (int i = 0; i < kUnroll; ++i) x[i] = V::round(x[i], k);
  }
  const auto k = V::key(schedule + 16 * kRounds);
#pragma GCC unroll 16
  for (int i = 0; i < kUnroll; ++i) x[i] = V::last_round(x[i], k);
}

template <class V, int kUnroll>
inline void keystream(const std::uint8_t* schedule, std::uint64_t stream, std::uint64_t first_block,
                      std::uint8_t* out, std::size_t blocks) {
  typename V::Reg counter = V::counters(stream, first_block);
  constexpr std::size_t kStep = static_cast<std::size_t>(kUnroll * V::kBlocks);
  for (; blocks >= kStep; blocks -= kStep, out += kStep * 16) {
    typename V::Reg x[kUnroll];
    encrypt_counters<V, kUnroll>(schedule, counter, x);
#pragma GCC unroll 16
    for (int i = 0; i < kUnroll; ++i) V::store(out + i * V::kBlocks * 16, x[i]);
    counter = V::add(counter, static_cast<int>(kStep));
  }
  while (blocks > 0) {
    typename V::Reg x[1];
    encrypt_counters<V, 1>(schedule, counter, x);
    const std::size_t n = blocks < V::kBlocks ? blocks : static_cast<std::size_t>(V::kBlocks);
    alignas(64) std::uint8_t last[V::kBlocks * 16];
    V::store(last, x[0]);
    std::memcpy(out, last, n * 16);
    counter = V::add(counter, V::kBlocks);
    out += n * 16;
    blocks -= n;
  }
}

}  // namespace mpcc::prg::internal
