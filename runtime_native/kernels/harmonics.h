// party.harmonics and party.fourier: cosines and sines of ring words, and sums of their products.
#pragma once

#include <cstddef>
#include <span>

#include "base/thread_pool.h"
#include "kernels/harmonics/variant.h"
#include "kernels/op.h"

namespace mpcc::kernels {

bool is_harmonic(OpCode code) noexcept;

// One of both ops, made ready once. infer() must have accepted it. Works in place and on the stack.
class Harmonic {
 public:
  Harmonic(const Op& op, std::span<const ValueType> operands, Isa isa = chosen_isa());
  void run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) const;

 private:
  const HarmonicVariant& variant_;
  HarmonicParams params_;
  bool fourier_;
  bool wide_x_;
  bool wide_;                      // words of rows and results
  std::size_t lanes_;              // of x
  std::vector<std::size_t> rows_;  // fourier: of each operand after x
};

// Work of an op as its demand counts it.
std::uint64_t harmonic_work(const Op& op, std::span<const ValueType> operands);

}  // namespace mpcc::kernels
