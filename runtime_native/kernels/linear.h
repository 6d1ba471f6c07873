// Matrix products and convolutions: party ops over mpcc_ring.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/demand.h"
#include "kernels/op.h"

namespace mpcc::kernels {

bool is_linear(OpCode code) noexcept;

// One conv or matmul. Right-hand operands that are the same in all runs of a session (`constant`,
// one flag per operand) are packed by pack(), at the latest at the first run(), and the packed form
// is used from then on.
class Linear {
 public:
  Linear(const Op& op, std::span<const ValueType> operands, std::vector<bool> constant);
  ~Linear();
  Linear(Linear&&) noexcept;
  Linear& operator=(Linear&&) noexcept;

  // Packs what is constant and not packed yet; of `in`, only constant operands are looked at.
  void pack(std::span<const std::byte* const> in);
  void run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool);
  // Working memory, packed operands and multiply-adds, before anything is allocated.
  Demand demand(int threads) const;
  // Bytes held in packed operands.
  std::size_t packed_bytes() const noexcept;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace mpcc::kernels
