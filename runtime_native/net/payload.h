// The content of an outgoing message: one or more pieces of memory and what keeps them alive.
#pragma once

#include <cstddef>
#include <cstring>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/secret_buffer.h"

namespace mpcc::net {

// Move only. The bytes must not change until the payload is gone: sending reads them on another
// thread. Dropping the last piece's owner is the signal that memory lent with borrow() is free
// again.
class Payload {
 public:
  struct Piece {
    std::span<const std::byte> bytes;
    std::shared_ptr<const void> owner;
  };

  Payload() = default;
  Payload(SecretBuffer buffer) { add(std::move(buffer)); }
  // Sent as one message, one after the other, without being copied together.
  Payload(std::vector<SecretBuffer> buffers) {
    for (auto& b : buffers) add(std::move(b));
  }
  Payload(Payload&&) noexcept = default;
  Payload& operator=(Payload&&) noexcept = default;

  static Payload copy_of(std::span<const std::byte> bytes) {
    auto buffer = SecretBuffer::uninitialized(bytes.size());
    if (!bytes.empty()) std::memcpy(buffer.data(), bytes.data(), bytes.size());
    return Payload(std::move(buffer));
  }
  // Memory of the caller's that stays valid and unchanged as long as `keep_alive` is referenced.
  static Payload borrow(std::span<const std::byte> bytes, std::shared_ptr<const void> keep_alive) {
    Payload p;
    p.size_ = bytes.size();
    p.pieces_.push_back({bytes, std::move(keep_alive)});
    return p;
  }

  void add(SecretBuffer buffer) {
    auto owner = std::make_shared<SecretBuffer>(std::move(buffer));
    size_ += owner->size();
    const std::span<const std::byte> bytes = std::as_const(*owner).bytes();
    pieces_.push_back({bytes, std::move(owner)});
  }

  std::size_t size() const noexcept { return size_; }
  const std::vector<Piece>& pieces() const noexcept { return pieces_; }

 private:
  std::vector<Piece> pieces_;
  std::size_t size_ = 0;
};

}  // namespace mpcc::net
