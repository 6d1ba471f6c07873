// What an op needs beside its operands and results, known from its shapes: working memory, packed
// operands, and how much work it is. Nothing here allocates or computes values.
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

#include "kernels/op.h"
#include "ring/scratch.h"

namespace mpcc::kernels {

// Sums of sizes and of work, which saturate: a program that needs more than 2^64 needs too much.
inline std::uint64_t sum_of(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t r = 0;
  return __builtin_add_overflow(a, b, &r) ? std::numeric_limits<std::uint64_t>::max() : r;
}
inline std::uint64_t product_of(std::uint64_t a, std::uint64_t b) noexcept {
  std::uint64_t r = 0;
  return __builtin_mul_overflow(a, b, &r) ? std::numeric_limits<std::uint64_t>::max() : r;
}

struct Demand {
  ring::internal::Scratch ring;     // bytes per thread of each slot; kept, and used by later ops
  std::size_t region_scratch = 0;   // bytes per thread of the block interpreter; kept likewise
  std::size_t packed_bytes = 0;     // of operands that are packed once per session
  std::size_t temporary_bytes = 0;  // held while the op runs
  // Multiply-adds of convolutions and products; for other ops, 64-bit words that are read or
  // written, once per monomial plane in a table of monomials.
  std::uint64_t work = 0;
};

// `constant`: per operand, whether it is the same in all runs of a session. infer() must have
// accepted the op. Throws Error("E-ring-shape") or Error("E-bounds-...") for sizes that no machine
// can hold.
Demand demand_of(const Op& op, std::span<const ValueType> operands,
                 const std::vector<bool>& constant, int threads);

}  // namespace mpcc::kernels
