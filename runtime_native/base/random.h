// Where keys begin: random bytes of the operating system, or an error. There is no fallback.
//
// Linux's getrandom(2) waits until the kernel's generator has been seeded once and never fails
// after that. What could still be wrong (a stuck or replayed source under a sandbox or an emulator)
// is looked for with the two health tests of NIST SP 800-90B, section 4.4, on every byte that is
// handed out and on a first sample that is thrown away. They are what they are: tests that notice a
// source that repeats itself or prefers one value. They prove no entropy; an unseeded generator
// with a fixed key would pass.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <mutex>
#include <span>

namespace mpcc {

// The repetition count test (4.4.1) and the adaptive proportion test (4.4.2) for samples of one
// byte, with a claimed min-entropy of 8 bits per byte and a false alarm once in 2^40 per test.
class HealthTest {
 public:
  // 1 + ceil(40 / 8): a byte this often in a row.
  static constexpr std::uint32_t kRepetitions = 6;
  // 1 + critbinom(512, 2^-8, 1 - 2^-40): the first byte of a window this often in it.
  static constexpr std::uint32_t kWindow = 512;
  static constexpr std::uint32_t kProportion = 19;

  // Takes the next samples; false if they, or any before, fail. Constant time in what they are,
  // until they fail.
  bool feed(std::span<const std::byte> samples) noexcept;

 private:
  std::uint32_t last_ = 256;  // no byte
  std::uint32_t run_ = 0;
  std::uint32_t first_ = 256;
  std::uint32_t seen_ = 0;  // samples of this window
  std::uint32_t count_ = 0;
  std::uint32_t failed_ = 0;
};

// A source of random bytes behind its health tests.
class RandomSource {
 public:
  // Fills the whole span or throws.
  using Read = void (*)(std::span<std::byte>);

  // Samples tested at the start, before the first byte is handed out (4.3 asks for 1024).
  static constexpr std::size_t kStartupBytes = 4096;

  // Throws what `read` throws, and Error("E-random-health") when the first sample fails.
  explicit RandomSource(Read read);

  // Throws as the constructor does. Whoever gets an error gets no bytes; a source that has failed a
  // test once is refused for good. Any thread.
  void fill(std::span<std::byte> out);

 private:
  const Read read_;
  std::mutex mutex_;
  HealthTest health_;
};

// getrandom(2). Throws Error("E-random-source") where the system has no such call or forbids it.
void read_system_random(std::span<std::byte> out);

// fill() of the process's source over read_system_random(), which is tested at its first use.
void random_bytes(std::span<std::byte> out);

}  // namespace mpcc
