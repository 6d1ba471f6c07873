// Memory for shares, keys and messages.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include "base/error.h"

namespace mpcc {

// Overwrites memory in a way that the compiler may not remove.
void secure_zero(void* data, std::size_t bytes) noexcept;

// A byte buffer, 64-byte aligned (a cache line, a ZMM register, a tile row), overwritten with zeros
// before its memory is returned. Move only: a copy of a secret is always written out by hand.
// The allocation is rounded up to a multiple of 64 bytes, so whole-vector loads at the end of
// data() are within the allocation; the bytes past size() are zero after construction. Buffers of
// kOwnPages bytes and more have pages of their own, which core files leave out.
class SecretBuffer {
 public:
  static constexpr std::size_t kAlignment = 64;
  static constexpr std::size_t kOwnPages = 64 << 10;

  SecretBuffer() noexcept = default;
  // Zero-filled. Throws Error("E-memory") when the allocation fails.
  explicit SecretBuffer(std::size_t bytes);
  // As above without the fill, for buffers that are written completely right away.
  static SecretBuffer uninitialized(std::size_t bytes);

  SecretBuffer(SecretBuffer&& other) noexcept;
  SecretBuffer& operator=(SecretBuffer&& other) noexcept;
  SecretBuffer(const SecretBuffer&) = delete;
  SecretBuffer& operator=(const SecretBuffer&) = delete;
  ~SecretBuffer();

  std::byte* data() noexcept { return data_; }
  const std::byte* data() const noexcept { return data_; }
  std::size_t size() const noexcept { return size_; }
  bool empty() const noexcept { return size_ == 0; }

  std::span<std::byte> bytes() noexcept { return {data_, size_}; }
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }

  // The buffer as words; size() must be a multiple of sizeof(T).
  template <class T>
  std::span<T> as() {
    return {reinterpret_cast<T*>(data_), count<T>()};
  }
  template <class T>
  std::span<const T> as() const {
    return {reinterpret_cast<const T*>(data_), count<T>()};
  }

  // Zeroises and releases now; the buffer is empty afterwards.
  void reset() noexcept;

  // Bytes that all buffers of the process hold, and the most that they ever held at once.
  struct Use {
    std::size_t now = 0;
    std::size_t most = 0;
  };
  static Use memory_use() noexcept;

 private:
  template <class T>
  std::size_t count() const {
    static_assert(std::is_trivially_copyable_v<T> && alignof(T) <= kAlignment);
    if (size_ % sizeof(T) != 0)
      throw Error("E-bounds-slice", "buffer size is not a multiple of the word size");
    return size_ / sizeof(T);
  }

  std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

}  // namespace mpcc
