// Ops that move ring words without computing: transpose, broadcast, pad, slice, gather, concat,
// reshape.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/op.h"

namespace mpcc::kernels {

bool is_structural(OpCode code) noexcept;
// Where the words of a slice begin in its operand, in bytes, if they lie there in one piece.
std::optional<std::size_t> slice_start(const Op& op, const ValueType& x);

// One copy between two boxes of equal shape; steps in words.
struct BoxCopy {
  std::size_t operand = 0;
  std::int64_t from = 0;  // first word read
  std::int64_t to = 0;    // first word written
  std::vector<std::int64_t> shape;
  std::vector<std::int64_t> from_steps;
  std::vector<std::int64_t> to_steps;
};

// A gather: `outer` times, runs of consecutive entries of `inner` words each.
struct RowCopy {
  struct Run {
    std::int64_t from;  // entry of the operand's axis
    std::int64_t to;    // entry of the result's
    std::int64_t count;
  };
  std::vector<Run> runs;
  std::int64_t outer = 0;
  std::int64_t inner = 0;
  std::int64_t from_size = 0;  // entries of the axis
  std::int64_t to_size = 0;
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
  RowCopy rows_;
};

}  // namespace mpcc::kernels
