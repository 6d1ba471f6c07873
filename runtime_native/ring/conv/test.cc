#include <doctest/doctest.h>

#include <string>
#include <thread>
#include <vector>

#include "base/error.h"
#include "ring/conv/conv.h"
#include "ring/gemm/test_kernels.h"

namespace mpcc::ring {
namespace {

using mpcc::testing::TestRandom;
using testing::report_kernels;
using testing::testable_kernels;
using testing::words;

std::string text(const Conv2dShape& s) {
  const auto n = [](std::size_t v) { return std::to_string(v) + " "; };
  return "b " + n(s.batch) + "c " + n(s.in_channels) + "h " + n(s.in_height) + "w " +
         n(s.in_width) + "o " + n(s.out_channels) + "k " + n(s.kernel_height) + n(s.kernel_width) +
         "s " + n(s.stride_height) + n(s.stride_width) + "d " + n(s.dilation_height) +
         n(s.dilation_width) + "p " + n(s.pad_top) + n(s.pad_left) + n(s.pad_bottom) +
         n(s.pad_right) + "g " + n(s.groups);
}

template <RingWord W>
void run_case(const GemmKernel<W>& kernel, const Conv2dShape& s, std::size_t count, bool accumulate,
              ThreadPool& pool, TestRandom& random) {
  CAPTURE(std::string(kernel.name));
  CAPTURE(text(s));
  CAPTURE(count);
  const std::vector<W> start = words<W>(random, s.output_words());
  std::vector<W> got = start, want = start;
  std::vector<std::vector<W>> x, w;
  std::vector<PackedConvWeights<W>> packed;
  std::vector<ConvPair<W>> pairs;
  packed.reserve(count);
  for (std::size_t i = 0; i < count; ++i) {
    x.push_back(words<W>(random, s.input_words()));
    w.push_back(words<W>(random, s.weight_words()));
    packed.emplace_back(s, w.back(), &kernel);
    conv2d_reference<W>(s, x.back(), w.back(), want, accumulate || i > 0);
  }
  for (std::size_t i = 0; i < count; ++i) pairs.push_back({x[i], &packed[i]});
  conv2d<W>(s, pairs, got, accumulate, pool);
  REQUIRE(got == want);
  if (!can_join(s, count, &kernel)) return;
  const std::vector<std::span<const W>> images(x.begin(), x.end());
  const std::vector<std::span<const W>> together(w.begin(), w.end());
  const PackedConvWeights<W> joined(s, together, &kernel);
  CHECK(joined.joined() == count);
  CHECK(joined.bytes() == PackedConvWeights<W>::bytes_for(s, &kernel, count));
  got = start;
  conv2d<W>(s, images, joined, got, accumulate, pool);
  REQUIRE(got == want);
}

const std::vector<Conv2dShape>& shapes() {
  static const std::vector<Conv2dShape> list = {
      {},
      // Pointwise, larger than one block of pixels; with a stride; with pads.
      {.in_channels = 13, .in_height = 9, .in_width = 17, .out_channels = 11},
      {.batch = 2,
       .in_channels = 5,
       .in_height = 8,
       .in_width = 7,
       .out_channels = 6,
       .stride_height = 2,
       .stride_width = 2},
      {.in_channels = 3,
       .in_height = 4,
       .in_width = 5,
       .out_channels = 2,
       .pad_top = 1,
       .pad_left = 2,
       .pad_bottom = 0,
       .pad_right = 1},
      // 3x3 and 5x5 as networks use them, deeper than one depth block.
      {.in_channels = 31,
       .in_height = 10,
       .in_width = 11,
       .out_channels = 37,
       .kernel_height = 3,
       .kernel_width = 3,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1},
      {.in_channels = 70,
       .in_height = 6,
       .in_width = 5,
       .out_channels = 70,
       .kernel_height = 3,
       .kernel_width = 3,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1},
      {.in_channels = 3,
       .in_height = 19,
       .in_width = 20,
       .out_channels = 24,
       .kernel_height = 5,
       .kernel_width = 5,
       .stride_height = 2,
       .stride_width = 2,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 2,
       .pad_right = 2},
      // Everything different in the two directions.
      {.batch = 3,
       .in_channels = 4,
       .in_height = 13,
       .in_width = 12,
       .out_channels = 5,
       .kernel_height = 2,
       .kernel_width = 4,
       .stride_height = 3,
       .stride_width = 2,
       .dilation_height = 3,
       .dilation_width = 2,
       .pad_top = 0,
       .pad_left = 3,
       .pad_bottom = 4,
       .pad_right = 1},
      // Pads larger than the image: whole output rows and columns see only zeros.
      {.in_channels = 2,
       .in_height = 2,
       .in_width = 1,
       .out_channels = 3,
       .kernel_height = 3,
       .kernel_width = 2,
       .pad_top = 4,
       .pad_left = 5,
       .pad_bottom = 3,
       .pad_right = 6},
      {.in_channels = 2,
       .in_height = 3,
       .in_width = 2,
       .out_channels = 3,
       .kernel_height = 1,
       .kernel_width = 2,
       .stride_width = 4,
       .dilation_width = 3,
       .pad_left = 9,
       .pad_right = 7},
      // Kernel = image (a fully connected layer), one-row kernels.
      {.batch = 2,
       .in_channels = 6,
       .in_height = 4,
       .in_width = 4,
       .out_channels = 9,
       .kernel_height = 4,
       .kernel_width = 4},
      {.in_channels = 3,
       .in_height = 5,
       .in_width = 9,
       .out_channels = 4,
       .kernel_height = 3,
       .kernel_width = 1},
      {.in_channels = 3,
       .in_height = 5,
       .in_width = 90,
       .out_channels = 4,
       .kernel_height = 1,
       .kernel_width = 7},
      // Several small images in one block of columns, whose tiles reach from one into the next.
      {.batch = 133, .in_channels = 7, .out_channels = 6},
      {.batch = 19,
       .in_channels = 4,
       .in_height = 3,
       .in_width = 3,
       .out_channels = 8,
       .kernel_height = 2,
       .kernel_width = 2,
       .pad_bottom = 1,
       .pad_right = 1,
       .groups = 2},
      {.batch = 5,
       .in_channels = 40,
       .in_height = 7,
       .in_width = 7,
       .out_channels = 9,
       .kernel_height = 3,
       .kernel_width = 3,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1},
      {.batch = 6,
       .in_channels = 3,
       .in_height = 5,
       .in_width = 1,
       .out_channels = 4,
       .kernel_height = 2,
       .stride_height = 3,
       .stride_width = 9,
       .pad_top = 30,
       .pad_left = 40,
       .pad_bottom = 30,
       .pad_right = 50},
      // Groups; depthwise, with and without a multiplier, strides, dilation, wide rows.
      {.in_channels = 6,
       .in_height = 7,
       .in_width = 6,
       .out_channels = 9,
       .kernel_height = 3,
       .kernel_width = 3,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1,
       .groups = 3},
      {.batch = 2,
       .in_channels = 5,
       .in_height = 9,
       .in_width = 33,
       .out_channels = 5,
       .kernel_height = 3,
       .kernel_width = 3,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1,
       .groups = 5},
      {.in_channels = 4,
       .in_height = 12,
       .in_width = 13,
       .out_channels = 8,
       .kernel_height = 5,
       .kernel_width = 5,
       .stride_height = 2,
       .stride_width = 2,
       .pad_top = 2,
       .pad_left = 1,
       .pad_bottom = 2,
       .pad_right = 3,
       .groups = 4},
      {.in_channels = 3,
       .in_height = 11,
       .in_width = 15,
       .out_channels = 3,
       .kernel_height = 2,
       .kernel_width = 3,
       .stride_height = 1,
       .stride_width = 3,
       .dilation_height = 2,
       .dilation_width = 4,
       .pad_top = 3,
       .pad_left = 2,
       .groups = 3},
      {.in_channels = 2,
       .in_height = 40,
       .in_width = 300,
       .out_channels = 2,
       .kernel_height = 3,
       .kernel_width = 3,
       .pad_top = 1,
       .pad_left = 1,
       .pad_bottom = 1,
       .pad_right = 1,
       .groups = 2},
      {.in_channels = 2,
       .in_height = 2,
       .in_width = 1,
       .out_channels = 2,
       .kernel_height = 3,
       .kernel_width = 2,
       .stride_width = 2,
       .pad_top = 4,
       .pad_left = 5,
       .pad_bottom = 3,
       .pad_right = 6,
       .groups = 2},
  };
  return list;
}

TEST_CASE_TEMPLATE("every variant is the reference, bit for bit", W, std::uint32_t, std::uint64_t) {
  report_kernels<W>();
  TestRandom random(21);
  ThreadPool one(1), three(3);
  for (const GemmKernel<W>* kernel : testable_kernels<W>())
    for (const Conv2dShape& s : shapes()) {
      run_case<W>(*kernel, s, 1, false, one, random);
      run_case<W>(*kernel, s, 2, true, three, random);
    }
}

TEST_CASE("random shapes agree") {
  using W = std::uint64_t;
  TestRandom random(22);
  ThreadPool pool(2);
  const auto kernels = testable_kernels<W>();
  int run = 0;
  for (int i = 0; i < 600; ++i) {
    Conv2dShape s;
    s.batch = 1 + random.below(2);
    const bool depthwise = random.below(3) == 0;
    s.groups = depthwise ? 2 + random.below(4) : 1 + random.below(3);
    s.in_channels = s.groups * (depthwise ? 1 : 1 + random.below(5));
    s.out_channels = s.groups * (1 + random.below(5));
    s.in_height = 1 + random.below(12);
    s.in_width = 1 + random.below(24);
    s.kernel_height = 1 + random.below(4);
    s.kernel_width = 1 + random.below(4);
    s.stride_height = 1 + random.below(3);
    s.stride_width = 1 + random.below(3);
    s.dilation_height = 1 + random.below(3);
    s.dilation_width = 1 + random.below(3);
    s.pad_top = random.below(4);
    s.pad_left = random.below(4);
    s.pad_bottom = random.below(4);
    s.pad_right = random.below(4);
    if ((s.kernel_height - 1) * s.dilation_height >= s.in_height + s.pad_top + s.pad_bottom ||
        (s.kernel_width - 1) * s.dilation_width >= s.in_width + s.pad_left + s.pad_right)
      continue;
    run_case<W>(*kernels[static_cast<std::size_t>(i) % kernels.size()], s, 1 + random.below(3),
                random.below(2) == 0, pool, random);
    ++run;
  }
  CHECK(run > 300);
}

TEST_CASE_TEMPLATE("the scratch of a convolution is what was declared", W, std::uint32_t,
                   std::uint64_t) {
  TestRandom random(23);
  for (const GemmKernel<W>* kernel : testable_kernels<W>())
    for (const Conv2dShape& s : shapes()) {
      CAPTURE(std::string(kernel->name));
      CAPTURE(text(s));
      const std::vector<W> x = words<W>(random, s.input_words());
      const PackedConvWeights<W> w(s, words<W>(random, s.weight_words()), kernel);
      const std::vector<ConvPair<W>> pairs = {{x, &w}, {x, &w}};
      std::vector<W> y(s.output_words());
      std::size_t used = 0;
      // A thread of its own begins without scratch.
      std::thread([&] {
        ThreadPool pool(1);
        const std::size_t before = SecretBuffer::memory_use().now;
        conv2d<W>(s, pairs, y, false, pool);
        used = SecretBuffer::memory_use().now - before;
      }).join();
      std::size_t declared = 0;
      for (const std::size_t bytes : conv2d_scratch<W>(s, pairs.size(), 1, kernel).bytes)
        declared += (bytes + SecretBuffer::kAlignment - 1) / SecretBuffer::kAlignment *
                    SecretBuffer::kAlignment;
      CHECK(used <= declared);
      // Depthwise, a table of pointers is declared as well, which is no secret.
      if (!s.depthwise()) CHECK(used == declared);
    }
}

TEST_CASE_TEMPLATE("the scratch of joined convolutions is what was declared", W, std::uint32_t,
                   std::uint64_t) {
  TestRandom random(24);
  int joined = 0;
  for (const GemmKernel<W>* kernel : testable_kernels<W>())
    for (const Conv2dShape& s : shapes()) {
      if (!can_join(s, 2, kernel)) continue;
      CAPTURE(std::string(kernel->name));
      CAPTURE(text(s));
      ++joined;
      const std::vector<W> x = words<W>(random, s.input_words());
      const std::vector<W> w = words<W>(random, s.weight_words());
      const std::vector<std::span<const W>> both = {w, w}, images = {x, x};
      const PackedConvWeights<W> packed(s, both, kernel);
      std::vector<W> y(s.output_words());
      std::size_t used = 0;
      std::thread([&] {
        ThreadPool pool(1);
        const std::size_t before = SecretBuffer::memory_use().now;
        conv2d<W>(s, images, packed, y, false, pool);
        used = SecretBuffer::memory_use().now - before;
      }).join();
      std::size_t declared = 0;
      for (const std::size_t bytes : conv2d_scratch<W>(s, 2, 1, kernel, true).bytes)
        declared += (bytes + SecretBuffer::kAlignment - 1) / SecretBuffer::kAlignment *
                    SecretBuffer::kAlignment;
      CHECK(used == declared);
    }
  CHECK(joined > 0);
}

TEST_CASE("wrong shapes are refused") {
  using W = std::uint64_t;
  const auto code = [](auto&& f) -> std::string {
    try {
      f();
    } catch (const Error& e) {
      return e.code();
    }
    return "";
  };
  Conv2dShape s{.in_channels = 2,
                .in_height = 4,
                .in_width = 4,
                .out_channels = 2,
                .kernel_height = 3,
                .kernel_width = 3};
  CHECK(s.out_height() == 2);
  const auto with = [&](auto change) {
    Conv2dShape t = s;
    change(t);
    return code([&] { t.validate(); });
  };
  CHECK(with([](Conv2dShape&) {}) == "");
  CHECK(with([](Conv2dShape& t) { t.kernel_height = 5; }) == "E-ring-shape");
  CHECK(with([](Conv2dShape& t) { t.groups = 3; }) == "E-ring-shape");
  CHECK(with([](Conv2dShape& t) { t.stride_width = 0; }) == "E-ring-shape");
  CHECK(with([](Conv2dShape& t) { t.pad_left = ~std::size_t{0}; }) == "E-ring-shape");
  CHECK(with([](Conv2dShape& t) {
          t.batch = t.in_channels = t.in_height = (std::size_t{1} << 31) - 1;
        }) == "E-bounds-overflow");
  // Operands of a few words whose padded rows are counted in 2^64 words, or a little less.
  Conv2dShape wide{.in_channels = 2, .out_channels = 2, .kernel_height = 32, .groups = 2};
  constexpr std::size_t kBig = std::size_t{1} << 24;
  wide.stride_height = wide.stride_width = kBig;
  wide.pad_top = wide.pad_left = wide.pad_bottom = kBig;
  wide.pad_right = kBig - 1;
  wide.dilation_height = 1082401;
  for (const std::size_t pairs :
       {std::size_t{1} << 13, std::size_t{1} << 14, std::size_t{1} << 15}) {
    const std::vector<std::uint64_t> few_x(wide.input_words()), few_w(wide.weight_words());
    std::vector<std::uint64_t> few_y(wide.output_words());
    const PackedConvWeights<std::uint64_t> few_packed(wide, few_w);
    const std::vector<ConvPair<std::uint64_t>> many(pairs, {few_x, &few_packed});
    ThreadPool one(1);
    const std::string got = code([&] { conv2d<std::uint64_t>(wide, many, few_y, false, one); });
    CHECK((got == "E-ring-shape" || got == "E-bounds-overflow"));
  }

  ThreadPool pool(1);
  const std::vector<W> x(s.input_words(), 1), w(s.weight_words(), 1);
  std::vector<W> y(s.output_words(), 3);
  const PackedConvWeights<W> packed(s, w);
  const auto run = [&](const Conv2dShape& t, std::size_t x_words, std::size_t y_words) {
    const ConvPair<W> pair{std::span(x).first(x_words), &packed};
    return code(
        [&] { conv2d<W>(t, std::span(&pair, 1), std::span(y).first(y_words), false, pool); });
  };
  CHECK(run(s, x.size(), y.size()) == "");
  CHECK(y == std::vector<W>(y.size(), 18));
  CHECK(run(s, x.size() - 1, y.size()) == "E-ring-shape");
  CHECK(run(s, x.size(), y.size() - 1) == "E-ring-shape");
  Conv2dShape other = s;
  other.groups = 2;
  CHECK(run(other, x.size(), y.size()) == "E-ring-shape");
  CHECK(code([&] { PackedConvWeights<W>(s, std::span(w).first(3)); }) == "E-ring-shape");
  {
    const std::vector<std::span<const W>> two(2, std::span<const W>(w).first(s.weight_words()));
    const std::vector<std::span<const W>> one(1, std::span<const W>(x).first(s.input_words()));
    const PackedConvWeights<W> together(s, two);
    CHECK(code([&] { conv2d<W>(s, one, together, y, false, pool); }) == "E-ring-shape");
    const ConvPair<W> alone{one[0], &together};
    CHECK(code([&] { conv2d<W>(s, std::span(&alone, 1), y, false, pool); }) == "E-ring-shape");
    CHECK(code([&] { PackedConvWeights<W>(s, std::span<const std::span<const W>>()); }) ==
          "E-ring-shape");
  }
  conv2d<W>(s, {}, y, true, pool);
  CHECK(y[0] == 18);
  conv2d<W>(s, {}, y, false, pool);
  CHECK(y[0] == 0);
}

}  // namespace
}  // namespace mpcc::ring
