// Sums of ring words over axes.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/thread_pool.h"
#include "kernels/op.h"

namespace mpcc::kernels {

// One party.reduce_sum, made ready once. infer() must have accepted the op.
class Reduction {
 public:
  Reduction(const Op& op, const ValueType& operand);
  void run(const std::byte* in, std::byte* out, ThreadPool& pool) const;

 private:
  struct Axis {
    std::int64_t size;
    std::int64_t step;  // of the operand, in words
  };

  template <class W>
  void run_words(const W* in, W* out, ThreadPool& pool) const;
  // Calls f(offset) for all index tuples of `axes`, row-major.
  template <class F>
  static void for_offsets(std::span<const Axis> axes, F&& f);
  // Offset of the index-th tuple of the outer kept axes.
  std::int64_t offset_of(std::int64_t index) const;

  bool wide_ = true;
  std::size_t words_ = 0;     // of the result
  bool empty_ = false;        // a summed axis has no entries
  std::vector<Axis> kept_;    // outer axes of the result
  std::vector<Axis> summed_;  // outer axes that are summed
  std::int64_t outer_ = 1;    // product of kept_
  std::int64_t width_ = 1;    // innermost axis if it is kept: contiguous on both sides, else 1
  std::int64_t depth_ = 1;    // innermost axis if it is summed: contiguous, else 1
};

}  // namespace mpcc::kernels
