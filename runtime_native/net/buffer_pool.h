// Buffers of large messages, kept for the next ones. A run receives what the run before received;
// to ask the kernel for the pages each time costs a fault and 4 KiB of zeros per page, which is
// more than most of what is done with them.
#pragma once

#include <algorithm>
#include <cstddef>
#include <deque>
#include <mutex>

#include "base/secret_buffer.h"

namespace mpcc::net {

// What is lent and what is kept are together never more than what was lent at once at some time, so
// keeping buffers does not raise the peak, or than permit() says. A buffer that is not given back
// counts as lent for ever. Any thread.
class BufferPool {
 public:
  // Smaller buffers are allocated and released each time.
  static constexpr std::size_t kLeast = SecretBuffer::kOwnPages;

  // From now on lent and kept buffers may have that many bytes, or what is lent at once if that is
  // more; what was lent before does not count any longer.
  void permit(std::size_t bytes) {
    std::deque<SecretBuffer> gone;
    const std::lock_guard lock(mutex_);
    most_ = std::max(lent_, bytes);
    make_room(gone);
  }

  // Of exactly that size; the content is anything.
  SecretBuffer take(std::size_t bytes) {
    if (bytes < kLeast) return SecretBuffer::uninitialized(bytes);
    std::deque<SecretBuffer> gone;  // released without the mutex
    {
      const std::lock_guard lock(mutex_);
      lent_ += bytes;
      most_ = std::max(most_, lent_);
      for (auto it = kept_.begin(); it != kept_.end(); ++it) {
        if (it->size() != bytes) continue;
        SecretBuffer found = std::move(*it);
        kept_.erase(it);
        kept_bytes_ -= bytes;
        return found;
      }
      make_room(gone);
    }
    gone.clear();
    return SecretBuffer::uninitialized(bytes);
  }

  // A buffer of take().
  void give(SecretBuffer buffer) {
    const std::size_t bytes = buffer.size();
    if (bytes < kLeast) return;
    const std::lock_guard lock(mutex_);
    lent_ -= bytes;
    kept_bytes_ += bytes;
    kept_.push_back(std::move(buffer));
  }

  std::size_t kept_bytes() const {
    const std::lock_guard lock(mutex_);
    return kept_bytes_;
  }

 private:
  // With the mutex. The oldest go first: sizes come in the order of the program.
  void make_room(std::deque<SecretBuffer>& gone) {
    while (!kept_.empty() && lent_ + kept_bytes_ > most_) {
      kept_bytes_ -= kept_.front().size();
      gone.push_back(std::move(kept_.front()));
      kept_.pop_front();
    }
  }

  mutable std::mutex mutex_;
  std::deque<SecretBuffer> kept_;
  std::size_t kept_bytes_ = 0;
  std::size_t lent_ = 0;
  std::size_t most_ = 0;
};

}  // namespace mpcc::net
