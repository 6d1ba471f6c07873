// Internal: working memory of the ring kernels, kept per thread so that a call does not allocate.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>

#include "base/checked.h"
#include "base/secret_buffer.h"

namespace mpcc::ring::internal {

enum class Slot { lhs, rhs, patches, weights, panels, sums, count };

// What an operation needs of each slot, in bytes per thread: computed from shapes alone, before
// anything is allocated.
struct Scratch {
  std::array<std::size_t, static_cast<std::size_t>(Slot::count)> bytes{};

  void need(Slot slot, std::size_t words, std::size_t word_bytes) {
    std::size_t& b = bytes[static_cast<std::size_t>(slot)];
    b = std::max(b, checked_mul(words, word_bytes, "scratch"));
  }
};

// `words` words, 64-byte aligned, undefined contents, valid until the thread's next call with the
// same slot. The memory holds operands until then; it is overwritten with zeros when it is
// replaced and when the thread ends.
template <class W>
W* scratch(Slot slot, std::size_t words) {
  static thread_local std::array<SecretBuffer, static_cast<std::size_t>(Slot::count)> buffers;
  SecretBuffer& b = buffers[static_cast<std::size_t>(slot)];
  const std::size_t bytes = checked_mul(words, sizeof(W));
  if (b.size() < bytes) {
    b.reset();
    b = SecretBuffer::uninitialized(bytes);
  }
  return reinterpret_cast<W*>(b.data());
}

}  // namespace mpcc::ring::internal
