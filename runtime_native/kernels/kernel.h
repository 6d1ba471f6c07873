// One op made ready to run, whatever its family: a region of elementwise ops, a product, a copy, a
// sum, a harmonic. Input, Weight, Output and Transfer have no kernel: they are their caller's.
#pragma once

#include <cstddef>
#include <span>
#include <variant>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/harmonics.h"
#include "kernels/linear.h"
#include "kernels/reduce.h"
#include "kernels/region.h"
#include "kernels/structural.h"

namespace mpcc::kernels {

bool has_kernel(const Op& op) noexcept;

class Kernel {
 public:
  // infer() or check_body() must have accepted the op. `constant`: per operand, whether it is the
  // same in all runs. Throws Error("E-graph-unknown-op") unless has_kernel(op).
  Kernel(const Op& op, std::span<const ValueType> operands, std::vector<bool> constant);

  // Keys in the order in which run() takes them.
  std::span<const KeyName> keys() const noexcept;
  // Buffers hold whole values of the op's types and do not overlap.
  void run(std::span<const std::byte* const> in, std::span<std::byte* const> out,
           std::span<const prg::Aes128* const> keys, ThreadPool& pool);

 private:
  std::variant<Region, Linear, Structural, Reduction, Harmonic> kernel_;
};

}  // namespace mpcc::kernels
