#include "base/secret_buffer.h"

#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

namespace mpcc {
namespace {

std::size_t rounded_up(std::size_t bytes) {
  constexpr std::size_t a = SecretBuffer::kAlignment;
  if (bytes > std::numeric_limits<std::size_t>::max() - a)
    throw Error("E-memory", "a buffer of " + std::to_string(bytes) + " bytes is not possible");
  return (bytes + a - 1) / a * a;
}

}  // namespace

void secure_zero(void* data, std::size_t bytes) noexcept {
  if (bytes == 0) return;
  std::memset(data, 0, bytes);
  // The compiler must assume that the asm reads the memory, so the stores above stay.
  __asm__ __volatile__("" : : "r"(data) : "memory");
}

SecretBuffer SecretBuffer::uninitialized(std::size_t bytes) {
  SecretBuffer b;
  if (bytes == 0) return b;
  const std::size_t capacity = rounded_up(bytes);
  b.data_ = static_cast<std::byte*>(std::aligned_alloc(kAlignment, capacity));
  if (b.data_ == nullptr)
    throw Error("E-memory", "cannot allocate " + std::to_string(bytes) + " bytes");
  b.size_ = bytes;
  std::memset(b.data_ + bytes, 0, capacity - bytes);
  return b;
}

SecretBuffer::SecretBuffer(std::size_t bytes) : SecretBuffer(uninitialized(bytes)) {
  if (bytes != 0) std::memset(data_, 0, bytes);
}

SecretBuffer::SecretBuffer(SecretBuffer&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

SecretBuffer& SecretBuffer::operator=(SecretBuffer&& other) noexcept {
  if (this != &other) {
    reset();
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

SecretBuffer::~SecretBuffer() { reset(); }

void SecretBuffer::reset() noexcept {
  if (data_ == nullptr) return;
  secure_zero(data_, (size_ + kAlignment - 1) / kAlignment * kAlignment);
  std::free(data_);
  data_ = nullptr;
  size_ = 0;
}

}  // namespace mpcc
