#include "base/random.h"

#include <sys/random.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "base/error.h"
#include "base/secret_buffer.h"

namespace mpcc {

bool HealthTest::feed(std::span<const std::byte> samples) noexcept {
  for (const std::byte b : samples) {
    const auto x = std::to_integer<std::uint32_t>(b);
    run_ = run_ * static_cast<std::uint32_t>(x == last_) + 1;
    last_ = x;
    if (seen_ == 0) {
      first_ = x;
      count_ = 0;
    }
    count_ += static_cast<std::uint32_t>(x == first_);
    seen_ = (seen_ + 1) % kWindow;
    failed_ |= static_cast<std::uint32_t>(run_ >= kRepetitions) |
               static_cast<std::uint32_t>(count_ >= kProportion);
  }
  return failed_ == 0;
}

RandomSource::RandomSource(Read read) : read_(read) {
  SecretBuffer sample(kStartupBytes);
  fill(sample.bytes());
}

void RandomSource::fill(std::span<std::byte> out) {
  bool healthy = false;
  try {
    read_(out);
    const std::lock_guard lock(mutex_);
    healthy = health_.feed(out);
  } catch (...) {
    secure_zero(out.data(), out.size());
    throw;
  }
  if (healthy) return;
  secure_zero(out.data(), out.size());
  throw Error("E-random-health",
              "the operating system's random bytes repeat themselves (health tests of NIST SP "
              "800-90B, 4.4); no key is made from them");
}

void read_system_random(std::span<std::byte> out) {
  while (!out.empty()) {
    const ssize_t n = ::getrandom(out.data(), out.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0)
      throw Error("E-random-source",
                  std::string("getrandom(2) does not work here (") +
                      (n < 0 ? std::strerror(errno) : "no bytes") +
                      "); no key is made without it: use Linux 3.17 or newer, and a sandbox that "
                      "permits the call");
    out = out.subspan(static_cast<std::size_t>(n));
  }
}

void random_bytes(std::span<std::byte> out) {
  static RandomSource source(&read_system_random);
  source.fill(out);
}

}  // namespace mpcc
