// One op made ready to run, whatever its family: a region of elementwise ops, a product, a copy, a
// sum, a harmonic. Input, Weight, Output and Transfer have no kernel: they are their caller's. The
// engine, the TensorFlow ops and the Python module all choose a kernel here.
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
  // `variant` sets the instruction set of regions and harmonics; products have their own choice.
  Kernel(const Op& op, std::span<const ValueType> operands, std::vector<bool> constant,
         const BlockVariant& variant = block_variant());

  // Keys in the order in which run() takes them.
  std::span<const KeyName> keys() const noexcept;
  // Keeps what stands in constant operands in the form that products read; nothing to do for other
  // families. `in` as for run(); operands that are not constant may be null.
  void pack(std::span<const std::byte* const> in);
  bool packs() const noexcept;
  // Bytes held in that form.
  std::size_t packed_bytes() const noexcept;
  // Buffers hold whole values of the op's types and overlap only where InPlace allows it.
  void run(std::span<const std::byte* const> in, std::span<std::byte* const> out,
           std::span<const prg::Aes128* const> keys, ThreadPool& pool);

 private:
  std::variant<Region, Linear, Structural, Reduction, Harmonic> kernel_;
};

}  // namespace mpcc::kernels
