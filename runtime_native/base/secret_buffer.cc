#include "base/secret_buffer.h"

#include <sys/mman.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <utility>

namespace mpcc {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

std::size_t rounded_up(std::size_t bytes) {
  constexpr std::size_t a = SecretBuffer::kAlignment;
  if (bytes > std::numeric_limits<std::size_t>::max() - kPage)
    throw Error("E-memory", "a buffer of " + std::to_string(bytes) + " bytes is not possible");
  return (bytes + a - 1) / a * a;
}

// At least `capacity` bytes, or null. Large buffers do not share a page with anything, so that they
// can be left out of core files; the process forbids those as well (process.h), this is for one
// whose settings somebody has turned back.
void* allocate(std::size_t capacity) noexcept {
  if (capacity < SecretBuffer::kOwnPages)
    return std::aligned_alloc(SecretBuffer::kAlignment, capacity);
  const std::size_t pages = (capacity + kPage - 1) / kPage * kPage;
  void* p = nullptr;
  if (::posix_memalign(&p, pages < kHugePage ? kPage : kHugePage, pages) != 0) return nullptr;
  ::madvise(p, pages, MADV_DONTDUMP);
  // Large values are read and written once per step: one entry of the TLB and one fault for 2 MiB
  // instead of 512. Of whole huge pages only, so nothing is allocated beyond `pages`; a refusal
  // does no harm.
  if (pages >= kHugePage) ::madvise(p, pages / kHugePage * kHugePage, MADV_HUGEPAGE);
  return p;
}

void release(void* p, std::size_t capacity) noexcept {
  if (capacity >= SecretBuffer::kOwnPages)
    ::madvise(p, (capacity + kPage - 1) / kPage * kPage, MADV_DODUMP);
  std::free(p);
}

// Two atomic additions per buffer, against the cost of its allocation and of zeroing it.
std::atomic<std::size_t> held_now{0};
std::atomic<std::size_t> held_most{0};

void count_allocation(std::size_t bytes) noexcept {
  const std::size_t now = held_now.fetch_add(bytes, std::memory_order_relaxed) + bytes;
  std::size_t most = held_most.load(std::memory_order_relaxed);
  while (now > most && !held_most.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
  }
}

}  // namespace

SecretBuffer::Use SecretBuffer::memory_use() noexcept {
  return {held_now.load(std::memory_order_relaxed), held_most.load(std::memory_order_relaxed)};
}

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
  b.data_ = static_cast<std::byte*>(allocate(capacity));
  if (b.data_ == nullptr)
    throw Error("E-memory", "cannot allocate " + std::to_string(bytes) + " bytes");
  b.size_ = bytes;
  count_allocation(capacity);
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
  const std::size_t capacity = (size_ + kAlignment - 1) / kAlignment * kAlignment;
  secure_zero(data_, capacity);
  held_now.fetch_sub(capacity, std::memory_order_relaxed);
  release(data_, capacity);
  data_ = nullptr;
  size_ = 0;
}

}  // namespace mpcc
