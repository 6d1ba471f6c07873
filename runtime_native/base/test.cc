#include <doctest/doctest.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/checked.h"
#include "base/cpu.h"
#include "base/error.h"
#include "base/secret_buffer.h"
#include "base/thread_pool.h"

namespace mpcc {
namespace {

template <class F>
std::string code_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e.code();
  }
  return "no error";
}

TEST_CASE("an error prints code, message and place") {
  const Error e("E-net-timeout", "no frame within 10 s", "peer P1");
  CHECK(std::string(e.what()) == "E-net-timeout: no frame within 10 s [peer P1]");
  CHECK(e.within("node 7").where() == "node 7 > peer P1");
  CHECK(std::string(Error("E-x", "y").what()) == "E-x: y");
}

TEST_CASE("checked arithmetic refuses to wrap") {
  constexpr std::size_t big = std::numeric_limits<std::size_t>::max();
  CHECK(checked_add<std::size_t>(big - 1, 1) == big);
  CHECK(code_of([&] { (void)checked_add<std::size_t>(big, 1); }) == "E-bounds-overflow");
  CHECK(code_of([&] { (void)checked_sub<std::size_t>(1, 2); }) == "E-bounds-overflow");
  CHECK(code_of([&] { (void)checked_mul<std::size_t>(big / 2, 3); }) == "E-bounds-overflow");
  CHECK(narrow<std::uint8_t>(255) == 255);
  CHECK(code_of([] { (void)narrow<std::uint8_t>(256); }) == "E-bounds-narrow");
  CHECK(code_of([] { (void)narrow<std::uint64_t>(-1); }) == "E-bounds-narrow");
  const std::vector<std::int64_t> shape = {2, 3, 4}, negative = {2, -1}, huge(3, 1LL << 40);
  CHECK(checked_product(std::span(shape)) == 24);
  CHECK(code_of([&] { (void)checked_product(std::span(negative)); }) == "E-bounds-negative");
  CHECK(code_of([&] { (void)checked_product(std::span(huge)); }) == "E-bounds-overflow");
}

TEST_CASE("checked slices stay inside") {
  std::vector<int> v(10);
  CHECK(checked_slice(std::span(v), 10, 0).empty());
  CHECK(checked_slice(std::span(v), 4, 6).size() == 6);
  CHECK(code_of([&] { (void)checked_slice(std::span(v), 4, 7); }) == "E-bounds-slice");
  CHECK(code_of([&] { (void)checked_slice(std::span(v), 11, 0); }) == "E-bounds-slice");
  CHECK(code_of([&] {
          (void)checked_slice(std::span(v), 1, std::numeric_limits<std::size_t>::max());
        }) == "E-bounds-slice");
}

TEST_CASE("a secret buffer is aligned, zero at first and moves") {
  for (std::size_t n : {1U, 63U, 64U, 65U, 4097U}) {
    SecretBuffer b(n);
    REQUIRE(b.size() == n);
    CHECK(reinterpret_cast<std::uintptr_t>(b.data()) % 64 == 0);
    for (std::byte x : b.bytes()) CHECK(x == std::byte{0});
    std::memset(b.data(), 7, n);
    SecretBuffer c = std::move(b);
    CHECK(b.empty());
    CHECK(c.bytes()[n - 1] == std::byte{7});
    b = std::move(c);
    CHECK(b.size() == n);
    b.reset();
    CHECK(b.data() == nullptr);
  }
  CHECK(SecretBuffer(0).data() == nullptr);
  CHECK(SecretBuffer(24).as<std::uint64_t>().size() == 3);
  CHECK(code_of([] { (void)SecretBuffer(9).as<std::uint64_t>(); }) == "E-bounds-slice");
  CHECK(code_of([] { SecretBuffer b(std::numeric_limits<std::size_t>::max()); }) == "E-memory");
}

TEST_CASE("secure_zero overwrites exactly the range") {
  std::vector<unsigned char> v(100, 0xff);
  secure_zero(v.data() + 10, 80);
  for (std::size_t i = 0; i < v.size(); ++i) CHECK(v[i] == (i < 10 || i >= 90 ? 0xff : 0));
}

TEST_CASE("the instruction set is the best supported one unless forced") {
  CpuFeatures none;
  CHECK(choose_isa(none, "") == Isa::scalar);
  CHECK(code_of([&] { choose_isa(none, "avx2"); }) == "E-isa-unsupported");
  CHECK(code_of([&] { choose_isa(none, "sse9"); }) == "E-isa-unknown");
  CpuFeatures server;
  server.avx2 = server.bmi2 = server.avx512 = server.amx_int8 = true;
  CHECK(choose_isa(server, "") == Isa::amx);
  CHECK(choose_isa(server, "scalar") == Isa::scalar);
  CHECK(choose_isa(server, "avx512") == Isa::avx512);
  server.amx_int8 = false;
  CHECK(choose_isa(server, "") == Isa::avx512);
  for (Isa isa : all_isas()) CHECK(parse_isa(isa_name(isa)) == isa);
  MESSAGE("this CPU: " << cpu_features().describe());
}

TEST_CASE("parallel_for covers every index once") {
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    for (std::size_t n : {0U, 1U, 2U, 7U, 1000U}) {
      for (std::size_t grain : {0U, 1U, 3U, 2000U}) {
        std::vector<std::atomic<int>> hits(n);
        pool.parallel_for(n, grain, [&](std::size_t begin, std::size_t end) {
          for (std::size_t i = begin; i < end; ++i) hits[i].fetch_add(1);
        });
        for (auto& h : hits) CHECK(h.load() == 1);
      }
    }
  }
  CHECK(code_of([] { ThreadPool p(0); }) == "E-threads");
}

TEST_CASE("parallel_for rethrows, nests and is shared by callers") {
  ThreadPool pool(3);
  CHECK(code_of([&] {
          pool.parallel_for(100, 1, [](std::size_t begin, std::size_t) {
            if (begin == 50) throw Error("E-inner", "from a range");
          });
        }) == "E-inner");
  std::atomic<std::size_t> total{0};
  const auto job = [&] {
    for (int repeat = 0; repeat < 50; ++repeat)
      pool.parallel_for(8, 1, [&](std::size_t, std::size_t) {
        pool.parallel_for(4, 1, [&](std::size_t b, std::size_t e) { total += e - b; });
      });
  };
  std::thread other(job);
  job();
  other.join();
  CHECK(total.load() == 2U * 50 * 8 * 4);
}

}  // namespace
}  // namespace mpcc
