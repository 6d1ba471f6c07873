// ring_bench: multiply-adds of ring words per second, of products and convolutions.
//
//   ring_bench [--threads N] [--word 32|64] [--variant NAME] [--filter TEXT] [--json]
//
// Every case runs for every variant that this machine has (or for the one that is named), and is
// the best of many short runs. With one thread the time is the thread's CPU time, so that a loaded
// machine disturbs little; with more it is wall time. Beside the cases stand two bounds:
//   tile    the variant's register tile on panels in L1: what packing and memory cost is the rest
//   issue   avx2 only: the tile's vector instructions at the measured rate of the machine's adds
//   and
//           multiplications, the larger of the two times
// --json prints one object: {"cpu", "threads", "results": [{"case", "word", "variant",
// "multiply_adds", "seconds", "gmacs", "of_tile"}]}; gmacs is in 10^9 per second.
#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "ring/conv/conv.h"
#include "ring/gemm/kernel.h"
#include "testing/random.h"

namespace {

using mpcc::ThreadPool;
namespace ring = mpcc::ring;

struct Options {
  int threads = 1;
  int word = 0;  // 0: both
  std::string variant, filter;
  bool json = false;
};

double now(bool cpu_time) {
  timespec t{};
  clock_gettime(cpu_time ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Seconds per call, the least of batches of about 0.2 ms or one call over `budget` seconds. Reading
// the clock is a system call, so it is read once per batch.
double seconds(bool cpu_time, const std::function<void()>& f, double budget = 0.3) {
  f();
  const auto batch = [&](int calls) {
    const double start = now(cpu_time);
    for (int i = 0; i < calls; ++i) f();
    return now(cpu_time) - start;
  };
  int calls = 1;
  while (batch(calls) < 1e-4 && calls < (1 << 20)) calls *= 2;
  double best = 1e30;
  double total = 0;
  for (int i = 0; i < 3 || total < budget; ++i) {
    const double elapsed = batch(calls);
    best = std::min(best, elapsed / calls);
    total += elapsed;
  }
  return best;
}

template <ring::RingWord W>
std::vector<W> words(std::uint64_t seed, std::size_t n) {
  mpcc::testing::TestRandom random(seed);
  std::vector<W> v(n);
  for (W& x : v) x = static_cast<W>(random.next());
  return v;
}

struct ConvCase {
  const char* name;
  ring::Conv2dShape shape;
  std::size_t pairs = 1;  // that are added up, packed together where that is possible
};

ring::Conv2dShape image(std::size_t in, std::size_t side, std::size_t out, std::size_t kernel,
                        std::size_t stride, std::size_t pad, std::size_t groups = 1,
                        std::size_t batch = 1) {
  return {.batch = batch,
          .in_channels = in,
          .in_height = side,
          .in_width = side,
          .out_channels = out,
          .kernel_height = kernel,
          .kernel_width = kernel,
          .stride_height = stride,
          .stride_width = stride,
          .pad_top = pad,
          .pad_left = pad,
          .pad_bottom = pad,
          .pad_right = pad,
          .groups = groups};
}

std::vector<ConvCase> conv_cases() {
  return {
      {"conv resnet50 7x7/2 3->64 @224", image(3, 224, 64, 7, 2, 3)},
      {"conv resnet50 1x1 64->256 @56", image(64, 56, 256, 1, 1, 0)},
      {"conv resnet50 3x3 64->64 @56", image(64, 56, 64, 3, 1, 1)},
      {"conv resnet50 3x3/2 128->128 @56", image(128, 56, 128, 3, 2, 1)},
      {"conv resnet50 1x1/2 256->512 @56", image(256, 56, 512, 1, 2, 0)},
      {"conv resnet50 3x3 256->256 @14", image(256, 14, 256, 3, 1, 1)},
      {"conv resnet50 3x3 512->512 @7", image(512, 7, 512, 3, 1, 1)},
      {"conv resnet50 1x1 512->2048 @7", image(512, 7, 2048, 1, 1, 0)},
      {"conv resnet18 3x3 64->64 @32", image(64, 32, 64, 3, 1, 1)},
      {"conv resnet18 3x3 512->512 @4", image(512, 4, 512, 3, 1, 1)},
      {"conv vgg 3x3 3->64 @32", image(3, 32, 64, 3, 1, 1)},
      {"conv vgg 3x3 512->512 @2", image(512, 2, 512, 3, 1, 1)},
      {"conv B 5x5 1->16 @28", image(1, 28, 16, 5, 1, 0)},
      {"conv B 5x5 1->16 @28 b128", image(1, 28, 16, 5, 1, 0, 1, 128)},
      {"conv B 5x5 1->16 @28 b128, two", image(1, 28, 16, 5, 1, 0, 1, 128), 2},
      {"conv C 5x5 1->20 @28 b128, two", image(1, 28, 20, 5, 1, 0, 1, 128), 2},
      {"conv vgg 3x3 3->64 @32, two", image(3, 32, 64, 3, 1, 1), 2},
      {"conv B 5x5 16->16 @12 b128", image(16, 12, 16, 5, 1, 0, 1, 128)},
      {"conv C 5x5 20->50 @12 b128", image(20, 12, 50, 5, 1, 0, 1, 128)},
      {"conv 1x1 256->256 @1 b128", image(256, 1, 256, 1, 1, 0, 1, 128)},
      {"conv 1x1 28->28 @64", image(28, 64, 28, 1, 1, 0)},
      {"conv grouped 3x3 128->128 g32 @28", image(128, 28, 128, 3, 1, 1, 32)},
      {"conv depthwise 3x3 64 @64", image(64, 64, 64, 3, 1, 1, 64)},
      {"conv depthwise 3x3/2 64 @64", image(64, 64, 64, 3, 2, 1, 64)},
      {"conv depthwise 3x3 96 @8", image(96, 8, 96, 3, 1, 1, 96)},
      {"conv depthwise 3x3 96 @8 b16", image(96, 8, 96, 3, 1, 1, 96, 16)},
  };
}

template <ring::RingWord W>
class Bench {
 public:
  Bench(const Options& options, ThreadPool& pool, const ring::GemmKernel<W>& kernel, bool& first)
      : options_(options), pool_(pool), kernel_(kernel), first_(first) {}

  void all() {
    tile_rate_ = measure_tile();
    report("bound tile", 1e9, 1e9 / tile_rate_);
    if (kernel_.isa == mpcc::Isa::avx2) report("bound issue", 1e9, 1e9 / issue_bound());
    gemm(256, 256, 256, false);
    gemm(256, 256, 256, true);
    gemm(512, 512, 512, true);
    gemm(1024, 1024, 1024, false);
    gemm(1024, 1024, 1024, true);
    gemm(1024, 9, 1024, true);
    gemm(128, 784, 128, true);
    gemm(128, 800, 500, true);
    gemm(128, 128, 10, true);
    for (const std::size_t m : {1, 2, 3, 4, 8}) gemm(m, 2048, 2048, m >= 4);
    gemm(1, 784, 128, false);
    gemm(2048, 2048, 1, false);
    batched(192, 128, 64, 128);
    batched(192, 128, 128, 64);
    batched(4096, 8, 8, 8);
    for (const ConvCase& c : conv_cases()) conv(c);
  }

 private:
  static constexpr double kBoundBudget = 1.0;

  bool wanted(const std::string& what) const {
    return what.find(options_.filter) != std::string::npos;
  }

  void report(const std::string& what, double macs, double s) {
    const double rate = macs / s / 1e9;
    if (!options_.json) {
      std::printf("%-34s u%zu %-8s %9.3f GMAC/s %12.1f us  %3.0f %% of tile\n", what.c_str(),
                  8 * sizeof(W), std::string(kernel_.name).c_str(), rate, s * 1e6,
                  1e11 * rate / tile_rate_);
      std::fflush(stdout);
      return;
    }
    std::printf(
        "%s\n    {\"case\": \"%s\", \"word\": %zu, \"variant\": \"%s\", \"multiply_adds\": %.0f, "
        "\"seconds\": %.9f, \"gmacs\": %.4f, \"of_tile\": %.4f}",
        first_ ? "" : ",", what.c_str(), 8 * sizeof(W), std::string(kernel_.name).c_str(), macs, s,
        rate, 1e9 * rate / tile_rate_);
    first_ = false;
  }

  double time(const std::function<void()>& f) const { return seconds(pool_.threads() == 1, f); }

  // Multiply-adds per second of all threads' register tiles on panels in L1.
  double measure_tile() const {
    const std::size_t depth = kernel_.kc;
    const std::vector<W> a = words<W>(3, kernel_.mr * depth), b = words<W>(4, kernel_.nr * depth);
    std::vector<W> lhs(kernel_.mr * kernel_.panel_depth(depth) + 16);
    std::vector<W> rhs(kernel_.nr * kernel_.panel_depth(depth) + 16);
    const auto aligned = [](std::vector<W>& v) {
      void* p = v.data();
      std::size_t space = v.size() * sizeof(W);
      return static_cast<W*>(std::align(64, space - 64, p, space));
    };
    W* l = aligned(lhs);
    W* r = aligned(rhs);
    kernel_.pack_lhs(a.data(), depth, kernel_.mr, depth, l);
    kernel_.pack_rhs(b.data(), kernel_.nr, depth, kernel_.nr, r);
    std::vector<W> c(kernel_.mr * kernel_.nr);
    const auto tile = [&] {
      kernel_.tile(depth, l, r, c.data(), kernel_.nr, kernel_.mr, kernel_.nr, false);
    };
    const double s = seconds(true, tile, kBoundBudget);
    return static_cast<double>(kernel_.mr * kernel_.nr * depth) / s * pool_.threads();
  }

  // Vector instructions per second: 256-bit additions, and 256-bit multiplications.
  __attribute__((target("avx2"))) double issue_bound() const {
    constexpr int kLoops = 2000;
    const double adds = seconds(
        true,
        [] {
          for (int i = 0; i < kLoops; ++i)
            __asm__ volatile(
                "vpaddq %%ymm0, %%ymm1, %%ymm2\n vpaddq %%ymm0, %%ymm1, %%ymm3\n"
                "vpaddq %%ymm0, %%ymm1, %%ymm4\n vpaddq %%ymm0, %%ymm1, %%ymm5\n"
                "vpaddq %%ymm0, %%ymm1, %%ymm6\n vpaddq %%ymm0, %%ymm1, %%ymm7\n"
                "vpaddq %%ymm0, %%ymm1, %%ymm8\n vpaddq %%ymm0, %%ymm1, %%ymm9\n" ::
                    : "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9");
        },
        kBoundBudget);
    const double products = seconds(
        true,
        [] {
          for (int i = 0; i < kLoops; ++i)
            __asm__ volatile(
                "vpmuludq %%ymm0, %%ymm1, %%ymm2\n vpmulld %%ymm0, %%ymm1, %%ymm3\n"
                "vpmuludq %%ymm0, %%ymm1, %%ymm4\n vpmulld %%ymm0, %%ymm1, %%ymm5\n"
                "vpmuludq %%ymm0, %%ymm1, %%ymm6\n vpmulld %%ymm0, %%ymm1, %%ymm7\n"
                "vpmuludq %%ymm0, %%ymm1, %%ymm8\n vpmulld %%ymm0, %%ymm1, %%ymm9\n" ::
                    : "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9");
        },
        kBoundBudget);
    // Per two multiply-adds of a vector: instructions, and multiplications among them.
    const double all = sizeof(W) == 8 ? 7 : 4;
    const double multiplications = sizeof(W) == 8 ? 2 : 1;
    const double one = 1.0 / (8 * kLoops);
    const double s = std::max(all * adds * one, multiplications * products * one);
    return 2 * 32 / sizeof(W) / s * pool_.threads();
  }

  void gemm(std::size_t m, std::size_t k, std::size_t n, bool packed) {
    const std::string what = "gemm " + std::to_string(m) + "x" + std::to_string(k) + "x" +
                             std::to_string(n) + (packed ? " packed" : "");
    if (!wanted(what)) return;
    const auto a = words<W>(1, m * k), b = words<W>(2, k * n);
    std::vector<W> c(m * n);
    const ring::PackedMatrix<W> weights({b.data(), k, n, n}, &kernel_);
    ring::GemmPair<W> pair{.a = {a.data(), m, k, k}, .b = {b.data(), k, n, n}};
    if (packed) pair.packed = &weights;
    report(what, static_cast<double>(m * k * n), time([&] {
             ring::gemm<W>(std::span(&pair, 1), {c.data(), m, n, n}, false, pool_, &kernel_);
           }));
  }

  void batched(std::size_t count, std::size_t m, std::size_t k, std::size_t n) {
    const std::string what = "gemm " + std::to_string(count) + " times " + std::to_string(m) + "x" +
                             std::to_string(k) + "x" + std::to_string(n);
    if (!wanted(what)) return;
    const auto a = words<W>(1, count * m * k), b = words<W>(2, count * k * n);
    std::vector<W> c(count * m * n);
    report(what, static_cast<double>(count * m * k * n), time([&] {
             pool_.parallel_for(
                 count, pool_.grain_for(count, 1), [&](std::size_t begin, std::size_t end) {
                   ThreadPool alone(1);
                   for (std::size_t i = begin; i < end; ++i) {
                     const ring::GemmPair<W> pair{.a = {a.data() + i * m * k, m, k, k},
                                                  .b = {b.data() + i * k * n, k, n, n}};
                     ring::gemm<W>(std::span(&pair, 1), {c.data() + i * m * n, m, n, n}, false,
                                   alone, &kernel_);
                   }
                 });
           }));
  }

  void conv(const ConvCase& which) {
    if (!wanted(which.name)) return;
    const ring::Conv2dShape& s = which.shape;
    const auto w = words<W>(2, s.weight_words());
    std::vector<std::vector<W>> x;
    for (std::size_t i = 0; i < which.pairs; ++i) x.push_back(words<W>(3 + i, s.input_words()));
    std::vector<W> y(s.output_words());
    const double products =
        static_cast<double>(which.pairs * s.output_words() * s.group_in() * s.taps());
    if (which.pairs > 1 && ring::can_join<W>(s, which.pairs, &kernel_)) {
      const std::vector<std::span<const W>> images(x.begin(), x.end());
      const std::vector<std::span<const W>> each(which.pairs, w);
      const ring::PackedConvWeights<W> weights(s, each, &kernel_);
      report(which.name, products,
             time([&] { ring::conv2d<W>(s, images, weights, y, false, pool_); }));
      return;
    }
    const ring::PackedConvWeights<W> weights(s, w, &kernel_);
    std::vector<ring::ConvPair<W>> pairs;
    for (const std::vector<W>& one : x) pairs.push_back({one, &weights});
    report(which.name, products, time([&] { ring::conv2d<W>(s, pairs, y, false, pool_); }));
  }

  const Options& options_;
  ThreadPool& pool_;
  const ring::GemmKernel<W>& kernel_;
  bool& first_;
  double tile_rate_ = 1;
};

template <ring::RingWord W>
void run(const Options& options, ThreadPool& pool, bool& first) {
  if (options.word != 0 && options.word != 8 * static_cast<int>(sizeof(W))) return;
  for (const ring::GemmKernel<W>* kernel : ring::gemm_kernels<W>()) {
    if (!mpcc::cpu_features().supports(kernel->isa)) continue;
    if (!options.variant.empty() && options.variant != kernel->name) continue;
    Bench<W>(options, pool, *kernel, first).all();
  }
}

bool parse(int argc, char** argv, Options& options) {
  for (int i = 1; i < argc; ++i) {
    const std::string_view name = argv[i];
    if (name == "--json") {
      options.json = true;
      continue;
    }
    if (i + 1 == argc) return false;
    const char* value = argv[++i];
    if (name == "--threads")
      options.threads = std::atoi(value);
    else if (name == "--word")
      options.word = std::atoi(value);
    else if (name == "--variant")
      options.variant = value;
    else if (name == "--filter")
      options.filter = value;
    else
      return false;
  }
  return options.word == 0 || options.word == 32 || options.word == 64;
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  if (!parse(argc, argv, options)) {
    std::fprintf(stderr,
                 "usage: ring_bench [--threads N] [--word 32|64] [--variant NAME] "
                 "[--filter TEXT] [--json]\n");
    return 2;
  }
  try {
    ThreadPool pool(options.threads);
    const std::string cpu = mpcc::cpu_features().describe();
    if (options.json)
      std::printf("{\"cpu\": \"%s\", \"threads\": %d, \"results\": [", cpu.c_str(), pool.threads());
    else
      std::printf("threads: %d, CPU: %s\n", pool.threads(), cpu.c_str());
    bool first = true;
    run<std::uint64_t>(options, pool, first);
    run<std::uint32_t>(options, pool, first);
    if (options.json) std::printf("\n]}\n");
  } catch (const mpcc::Error& e) {
    std::fprintf(stderr, "ring_bench: %s\n", e.what());
    return 1;
  }
}
