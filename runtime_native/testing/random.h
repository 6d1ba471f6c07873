// Deterministic values for tests and benchmarks. Never a source of protocol randomness: nothing
// outside test and bench files may include this header.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace mpcc::testing {

// SplitMix64 (Steele, Lea, Flood, OOPSLA 2014): small, seedable, good enough to fill buffers.
class TestRandom {
 public:
  explicit TestRandom(std::uint64_t seed) : state_(seed) {}

  std::uint64_t next() {
    state_ += 0x9e3779b97f4a7c15ULL;
    std::uint64_t z = state_;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
  }

  // Uniform up to a bias below 2^-32 for the small bounds of tests.
  std::size_t below(std::size_t bound) { return static_cast<std::size_t>(next() % bound); }

  std::vector<std::uint64_t> words(std::size_t n) {
    std::vector<std::uint64_t> v(n);
    for (auto& x : v) x = next();
    return v;
  }

  std::vector<std::byte> bytes(std::size_t n) {
    std::vector<std::byte> v(n);
    for (auto& x : v) x = static_cast<std::byte>(next() >> 56);
    return v;
  }

 private:
  std::uint64_t state_;
};

}  // namespace mpcc::testing
