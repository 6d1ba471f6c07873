// Ops that move ring words without computing: transpose, broadcast, pad, slice, concat, reshape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/op.h"

namespace mpcc::kernels {

bool is_structural(OpCode code) noexcept;

// One copy between two boxes of equal shape; steps in words.
struct BoxCopy {
  std::size_t operand = 0;
  std::int64_t from = 0;  // first word read
  std::int64_t to = 0;    // first word written
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> from_steps;
  std::vector<std::int64_t> to_steps;
};

// A structural op as a fill and copies, made once. infer() must have accepted the op.
class Structural {
 public:
  Structural(const Op& op, std::span<const ValueType> operands);
  void run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) const;

 private:
  template <class W>
  void run_words(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) const;

  bool wide_ = true;
  bool fill_ = false;
  std::uint64_t value_ = 0;
  std::size_t words_ = 0;
  std::vector<BoxCopy> copies_;
};

}  // namespace mpcc::kernels
