#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "ring/gemm/strassen.h"
#include "ring/gemm/test_kernels.h"

namespace mpcc::ring {
namespace {

using internal::Scratch;
using mpcc::testing::TestRandom;
using testing::report_kernels;
using testing::testable_kernels;
using testing::words;

struct Case {
  std::size_t m, n, k;
  std::size_t pairs = 1;
  bool accumulate = false;
  bool packed = false;
  std::size_t slack = 0;  // leading dimension beyond the width
  int levels = 0;         // cut so often; 0 as gemm() chooses
};

template <RingWord W>
void run_case(const GemmKernel<W>& kernel, const Case& t, ThreadPool& pool, TestRandom& random) {
  CAPTURE(std::string(kernel.name));
  CAPTURE(t.m);
  CAPTURE(t.n);
  CAPTURE(t.k);
  CAPTURE(t.levels);
  std::vector<std::vector<W>> storage;
  std::vector<PackedMatrix<W>> packed;
  packed.reserve(t.pairs);
  std::vector<GemmPair<W>> with_b, pairs;
  const std::size_t lda = t.k + t.slack;
  const std::size_t ldb = t.n + t.slack;
  const std::size_t ldc = t.n + t.slack;
  for (std::size_t p = 0; p < t.pairs; ++p) {
    storage.push_back(words<W>(random, t.m * lda + 1));
    const W* a = storage.back().data();
    storage.push_back(words<W>(random, t.k * ldb + 1));
    const W* b = storage.back().data();
    with_b.push_back({.a = {a, t.m, t.k, lda}, .b = {b, t.k, t.n, ldb}});
    pairs.push_back(with_b.back());
    if (t.packed) {
      packed.emplace_back(with_b.back().b, &kernel);
      pairs.back().b = {};
      pairs.back().packed = &packed.back();
    }
  }
  const std::vector<W> start = words<W>(random, t.m * ldc + 1);
  std::vector<W> got = start, want = start;
  const Matrix<W> c{got.data(), t.m, t.n, ldc};
  if (t.levels == 0)
    gemm<W>(pairs, c, t.accumulate, pool, &kernel);
  else
    internal::strassen<W>(pairs, c, t.accumulate, t.levels, pool, kernel);
  gemm_reference<W>(with_b, {want.data(), t.m, t.n, ldc}, t.accumulate);
  REQUIRE(got == want);  // words past each row included
}

TEST_CASE_TEMPLATE("every variant is the reference, bit for bit", W, std::uint32_t, std::uint64_t) {
  TestRandom random(11);
  ThreadPool one(1), three(3);
  report_kernels<W>();
  for (const GemmKernel<W>* kernel : testable_kernels<W>()) {
    REQUIRE(self_check(*kernel));
    const std::size_t mr = kernel->mr, nr = kernel->nr, kq = kernel->kq;
    // Sizes around the register tile, all combinations.
    for (const std::size_t m : {std::size_t{1}, std::size_t{3}, mr - 1, mr, mr + 1})
      for (const std::size_t n : {std::size_t{1}, std::size_t{2}, nr - 1, nr, nr + 1})
        for (const std::size_t k : {std::size_t{1}, std::size_t{7}, kq, kq + 1})
          for (const bool packed : {false, true})
            run_case<W>(*kernel, {m, n, k, 1 + (m + n) % 2, (m + k) % 2 == 0, packed, n % 3}, one,
                        random);
    // Several cache blocks, primes, threads.
    const std::size_t deep = kernel->kc + 3;
    for (const Case& t :
         {Case{37, 41, deep, 2, true, false, 3}, Case{37, 41, deep, 2, true, true, 3},
          Case{kernel->mc + 5, 23, 29, 3, false, false, 1},
          Case{7, kernel->nc + 9, 31, 3, false, true, 0}, Case{1, 1031, 53, 2, false, false, 2},
          Case{1, 523, deep, 2, true, true, 0}, Case{211, 1, 307, 3, true, false, 5},
          Case{2, 2, deep, 1, false, false, 0}}) {
      run_case<W>(*kernel, t, one, random);
      run_case<W>(*kernel, t, three, random);
    }
  }
}

TEST_CASE("random shapes agree") {
  using W = std::uint64_t;
  TestRandom random(12);
  ThreadPool pool(2);
  for (const GemmKernel<W>* kernel : testable_kernels<W>())
    for (int i = 0; i < 40; ++i)
      run_case<W>(
          *kernel,
          {1 + random.below(70), 1 + random.below(70), 1 + random.below(150), 1 + random.below(3),
           random.below(2) == 0, random.below(2) == 0, random.below(4)},
          pool, random);
}

TEST_CASE_TEMPLATE("cut products are the reference, bit for bit", W, std::uint32_t, std::uint64_t) {
  TestRandom random(13);
  ThreadPool one(1), three(3);
  for (const GemmKernel<W>* kernel : testable_kernels<W>())
    for (const int levels : {1, 2}) {
      // From less than a word per part on, so that whole parts lie beyond the edges.
      for (const std::size_t side : {std::size_t{1}, std::size_t{2}, kernel->mr, kernel->nr + 1})
        run_case<W>(*kernel, {side, side + 1, side, 1, side % 2 == 0, false, 1, levels}, one,
                    random);
      for (int i = 0; i < 2; ++i)
        run_case<W>(*kernel,
                    {1 + random.below(60), 1 + random.below(60), 1 + random.below(90),
                     1 + random.below(2), random.below(2) == 0, false, random.below(4), levels},
                    i % 2 == 0 ? one : three, random);
    }
}

TEST_CASE_TEMPLATE("cut products of several regions agree", W, std::uint32_t, std::uint64_t) {
  TestRandom random(15);
  ThreadPool three(3);
  for (const GemmKernel<W>* kernel : {gemm_kernels<W>()[0], &gemm_kernel<W>()}) {
    const std::size_t many = 2 * 385;  // parts have at most 384
    run_case<W>(*kernel, {many, 7, 11, 2, true, false, 2, 1}, three, random);
    run_case<W>(*kernel, {6, many, 9, 1, false, false, 0, 1}, three, random);
    run_case<W>(*kernel, {9, 5, 2 * (kernel->kc + 1), 2, false, false, 3, 1}, three, random);
  }
}

TEST_CASE_TEMPLATE("large products are cut, and need the memory that was said", W, std::uint32_t,
                   std::uint64_t) {
  TestRandom random(14);
  const GemmKernel<W>& kernel = gemm_kernel<W>();
  if (kernel.least_part == 0) {
    MESSAGE("skipped: " << std::string(kernel.name) << " does not cut products");
    return;
  }
  const std::size_t side = 2 * kernel.least_part;
  CHECK_FALSE(gemm_cuts<W>(side, side, side - 1));
  REQUIRE(gemm_cuts<W>(side, side, side + 3));
  for (const int threads : {1, 3}) {
    const Scratch said = gemm_scratch<W>(side, side, side + 3, false, false, threads, &kernel);
    std::size_t most = 0;
    for (const std::size_t bytes : said.bytes) most += bytes;
    std::size_t held = 0;
    // Working memory belongs to threads, so a new one has none yet.
    std::thread([&] {
      ThreadPool pool(threads);
      const std::size_t before = SecretBuffer::memory_use().now;
      run_case<W>(kernel, {side, side + 3, side, 1, false, false, 1}, pool, random);
      held = SecretBuffer::memory_use().now - before;
    }).join();
    CHECK(held > 0);
    // A buffer takes whole cache lines.
    most += said.bytes.size() * SecretBuffer::kAlignment;
    CHECK(held <= most * static_cast<std::size_t>(threads));
  }
}

TEST_CASE("all-ones operands overflow no limb accumulator at the full block depth") {
  for (const GemmKernel<std::uint64_t>* kernel : testable_kernels<std::uint64_t>()) {
    const std::size_t k = kernel->kc;
    const std::vector<std::uint64_t> a(k, ~0ULL), b(k * 5, ~0ULL);
    std::vector<std::uint64_t> c(5);
    const PackedMatrix<std::uint64_t> packed({b.data(), k, 5, 5}, kernel);
    const std::array<GemmPair<std::uint64_t>, 1> pairs = {
        GemmPair<std::uint64_t>{.a = {a.data(), 1, k, k}, .packed = &packed}};
    ThreadPool pool(1);
    gemm<std::uint64_t>(pairs, {c.data(), 1, 5, 5}, false, pool);
    for (std::uint64_t x : c) CHECK(x == k);  // k * (-1)^2
  }
}

TEST_CASE("empty products and wrong shapes") {
  using W = std::uint64_t;
  ThreadPool pool(1);
  std::vector<W> a(12, 1), b(12, 1), c(9, 5);
  gemm<W>({}, {c.data(), 3, 3, 3}, true, pool);
  CHECK(c == std::vector<W>(9, 5));
  gemm<W>({}, {c.data(), 3, 3, 3}, false, pool);
  CHECK(c == std::vector<W>(9, 0));
  const auto code = [&](GemmPair<W> pair) -> std::string {
    const std::array<GemmPair<W>, 1> pairs = {pair};
    try {
      gemm<W>(pairs, {c.data(), 3, 3, 3}, false, pool);
    } catch (const Error& e) {
      return e.code();
    }
    return "";
  };
  CHECK(code({.a = {a.data(), 3, 4, 4}, .b = {b.data(), 4, 3, 3}}) == "");
  CHECK(c == std::vector<W>(9, 4));
  CHECK(code({.a = {a.data(), 3, 4, 4}, .b = {b.data(), 3, 3, 3}}) == "E-ring-shape");
  CHECK(code({.a = {a.data(), 2, 4, 4}, .b = {b.data(), 4, 3, 3}}) == "E-ring-shape");
  CHECK(code({.a = {a.data(), 3, 4, 3}, .b = {b.data(), 4, 3, 3}}) == "E-ring-shape");
  CHECK(code({.a = {nullptr, 3, 4, 4}, .b = {b.data(), 4, 3, 3}}) == "E-ring-shape");
  const PackedMatrix<W> scalar({b.data(), 4, 3, 3}, gemm_kernels<W>()[0]);
  const PackedMatrix<W> tiles({b.data(), 4, 3, 3}, testable_kernels<W>()[1]);
  const std::array<GemmPair<W>, 2> mixed = {
      GemmPair<W>{.a = {a.data(), 3, 4, 4}, .packed = &scalar},
      GemmPair<W>{.a = {a.data(), 3, 4, 4}, .packed = &tiles}};
  CHECK_THROWS_AS(gemm<W>(mixed, {c.data(), 3, 3, 3}, false, pool), Error);
}

TEST_CASE("a self-check notices a wrong variant") {
  GemmKernel<std::uint64_t> broken = *gemm_kernels<std::uint64_t>()[0];
  broken.combine = [](std::size_t n, std::size_t, const std::uint64_t* const*, const std::uint64_t*,
                      std::uint64_t* y, bool) {
    for (std::size_t i = 0; i < n; ++i) y[i] = 0;
  };
  CHECK_FALSE(self_check(broken));
  broken = *gemm_kernels<std::uint64_t>()[0];
  broken.tile = [](std::size_t k, const std::uint64_t* a, const std::uint64_t* b, std::uint64_t* c,
                   std::size_t ldc, std::size_t rows, std::size_t cols, bool add) {
    gemm_kernels<std::uint64_t>()[0]->tile(k, a, b, c, ldc, rows, cols, add);
    c[0] += 1ULL << 62;
  };
  CHECK_FALSE(self_check(broken));
  broken = *gemm_kernels<std::uint64_t>()[0];
  broken.gather_rhs = [](const std::uint64_t* x, const std::size_t* row, const std::size_t* column,
                         std::size_t k, std::uint64_t* out) {
    gemm_kernels<std::uint64_t>()[0]->gather_rhs(x, row, column, k, out);
    out[1] ^= 1;
  };
  CHECK_FALSE(self_check(broken));
}

}  // namespace
}  // namespace mpcc::ring
