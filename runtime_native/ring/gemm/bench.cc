// ring_bench: GMAC/s (10^9 multiply-adds of 64-bit ring words per second) of the GEMM and
// convolution kernels. Usage: ring_bench [threads]   (default 1)
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

#include "ring/conv/conv.h"
#include "ring/gemm/kernel.h"
#include "testing/random.h"

namespace {

using mpcc::ThreadPool;
using W = std::uint64_t;
namespace ring = mpcc::ring;

// Seconds per call: the best of several batches of at least 0.1 s.
double seconds(const std::function<void()>& f) {
  using Clock = std::chrono::steady_clock;
  f();
  double best = 1e30;
  for (int batch = 0; batch < 4; ++batch) {
    const auto start = Clock::now();
    double elapsed = 0;
    int calls = 0;
    while (elapsed < 0.1) {
      f();
      ++calls;
      elapsed = std::chrono::duration<double>(Clock::now() - start).count();
    }
    best = std::min(best, elapsed / calls);
  }
  return best;
}

void report(const char* what, const ring::GemmKernel<W>& kernel, double macs, double s) {
  std::printf("%-34s %-8s %10.3f GMAC/s %12.1f us\n", what, std::string(kernel.name).c_str(),
              macs / s / 1e9, s * 1e6);
}

void bench_gemm(const ring::GemmKernel<W>& kernel, ThreadPool& pool, std::size_t m, std::size_t k,
                std::size_t n, bool packed) {
  mpcc::testing::TestRandom random(1);
  const auto a = random.words(m * k), b = random.words(k * n);
  std::vector<W> c(m * n);
  const ring::PackedMatrix<W> weights({b.data(), k, n, n}, &kernel);
  ring::GemmPair<W> pair{.a = {a.data(), m, k, k}, .b = {b.data(), k, n, n}};
  if (packed) pair.packed = &weights;
  const std::string what = "gemm " + std::to_string(m) + "x" + std::to_string(k) + "x" +
                           std::to_string(n) + (packed ? " packed" : "");
  report(what.c_str(), kernel, static_cast<double>(m * k * n), seconds([&] {
           ring::gemm<W>(std::span(&pair, 1), {c.data(), m, n, n}, false, pool, &kernel);
         }));
}

void bench_conv(const ring::GemmKernel<W>& kernel, ThreadPool& pool, const char* what,
                const ring::Conv2dShape& s) {
  mpcc::testing::TestRandom random(2);
  const auto x = random.words(s.input_words()), w = random.words(s.weight_words());
  std::vector<W> y(s.output_words());
  const ring::PackedConvWeights<W> weights(s, w, &kernel);
  const ring::ConvPair<W> pair{x, &weights};
  report(what, kernel, static_cast<double>(s.output_words() * s.group_in() * s.taps()),
         seconds([&] { ring::conv2d<W>(s, std::span(&pair, 1), y, false, pool); }));
}

}  // namespace

int main(int argc, char** argv) {
  ThreadPool pool(argc > 1 ? std::atoi(argv[1]) : 1);
  std::printf("threads: %d, CPU: %s\n", pool.threads(), mpcc::cpu_features().describe().c_str());
  for (const ring::GemmKernel<W>* kernel : ring::gemm_kernels<W>()) {
    if (!mpcc::cpu_features().supports(kernel->isa)) continue;
    bench_gemm(*kernel, pool, 256, 256, 256, false);
    bench_gemm(*kernel, pool, 256, 256, 256, true);
    bench_gemm(*kernel, pool, 1024, 1024, 1024, false);
    for (const bool packed : {false, true}) {
      bench_gemm(*kernel, pool, 1, 784, 128, packed);
      bench_gemm(*kernel, pool, 1, 2048, 2048, packed);
    }
    bench_gemm(*kernel, pool, 2048, 2048, 1, false);
    bench_conv(*kernel, pool, "depthwise 3x3 64ch 64x64",
               {.in_channels = 64,
                .in_height = 64,
                .in_width = 64,
                .out_channels = 64,
                .kernel_height = 3,
                .kernel_width = 3,
                .pad_top = 1,
                .pad_left = 1,
                .pad_bottom = 1,
                .pad_right = 1,
                .groups = 64});
    bench_conv(*kernel, pool, "depthwise 3x3 s2 64ch 64x64",
               {.in_channels = 64,
                .in_height = 64,
                .in_width = 64,
                .out_channels = 64,
                .kernel_height = 3,
                .kernel_width = 3,
                .stride_height = 2,
                .stride_width = 2,
                .pad_bottom = 1,
                .pad_right = 1,
                .groups = 64});
    bench_conv(*kernel, pool, "depthwise 3x3 96ch 8x8",
               {.in_channels = 96,
                .in_height = 8,
                .in_width = 8,
                .out_channels = 96,
                .kernel_height = 3,
                .kernel_width = 3,
                .pad_top = 1,
                .pad_left = 1,
                .pad_bottom = 1,
                .pad_right = 1,
                .groups = 96});
    bench_conv(*kernel, pool, "pointwise 28->28 64x64",
               {.in_channels = 28, .in_height = 64, .in_width = 64, .out_channels = 28});
    bench_conv(*kernel, pool, "pointwise 256->256 16x16",
               {.in_channels = 256, .in_height = 16, .in_width = 16, .out_channels = 256});
    bench_conv(*kernel, pool, "conv 5x5 s2 3->24 128x128",
               {.in_channels = 3,
                .in_height = 128,
                .in_width = 128,
                .out_channels = 24,
                .kernel_height = 5,
                .kernel_width = 5,
                .stride_height = 2,
                .stride_width = 2,
                .pad_top = 1,
                .pad_left = 1,
                .pad_bottom = 2,
                .pad_right = 2});
    bench_conv(*kernel, pool, "conv 3x3 64->64 56x56",
               {.in_channels = 64,
                .in_height = 56,
                .in_width = 56,
                .out_channels = 64,
                .kernel_height = 3,
                .kernel_width = 3,
                .pad_top = 1,
                .pad_left = 1,
                .pad_bottom = 1,
                .pad_right = 1});
    bench_conv(*kernel, pool, "conv 3x3 512->512 7x7",
               {.in_channels = 512,
                .in_height = 7,
                .in_width = 7,
                .out_channels = 512,
                .kernel_height = 3,
                .kernel_width = 3,
                .pad_top = 1,
                .pad_left = 1,
                .pad_bottom = 1,
                .pad_right = 1});
  }
}
