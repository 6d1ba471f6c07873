// harmonics_bench: nanoseconds per element of party.harmonics (half of the rows, as a party's
// message has them) and of party.fourier, by every variant that this machine has, on one thread.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/harmonics.h"

namespace {

using namespace mpcc;
using Clock = std::chrono::steady_clock;

template <class F>
double fastest(std::size_t lanes, F&& f) {
  double best = 1e30;
  for (int i = 0; i < 15; ++i) {
    const auto start = Clock::now();
    f();
    best = std::min(best, std::chrono::duration<double, std::nano>(Clock::now() - start).count());
  }
  return best / static_cast<double>(lanes);
}

void measure(const kernels::HarmonicVariant& variant, std::int64_t count, std::int64_t ring,
             std::int64_t lanes) {
  Attributes angle;
  angle.set("period", std::int64_t{20});
  angle.set("multiplier", std::int64_t{1});
  angle.set("precision", std::int64_t{14});
  const auto type = [&](std::vector<std::int64_t> shape, std::int64_t bits) {
    return ValueType::ring(std::move(shape), bits, Place::P0);
  };
  const std::vector<ValueType> x = {type({lanes}, 64)};
  Op u;
  u.code = OpCode::Harmonics;
  u.attributes = angle;
  u.attributes.set("first", std::int64_t{0});
  u.attributes.set("rows", count);
  u.attributes.set("ring", ring);
  u.types = infer(spec_of(u.code), u.attributes, x);
  Op f;
  f.code = OpCode::Fourier;
  f.attributes = angle;
  f.attributes.set("coefficient_frac", std::int64_t{20});
  f.attributes.set("cos", std::vector<std::int64_t>(static_cast<std::size_t>(count), 12345));
  f.attributes.set("sin", std::vector<std::int64_t>(static_cast<std::size_t>(count), -54321));
  const std::vector<ValueType> xm = {x[0], type({2 * count, lanes}, ring)};
  f.types = infer(spec_of(f.code), f.attributes, xm);
  std::vector<std::byte> words(x[0].bytes());
  for (std::size_t i = 0; i < words.size(); ++i) words[i] = static_cast<std::byte>(i * 167 >> 3);
  std::vector<std::byte> rows(xm[1].bytes());
  std::vector<std::byte> out(rows.size());
  ThreadPool pool(1);
  const kernels::Harmonic make(u, x, variant.isa);
  const kernels::Harmonic sum(f, xm, variant.isa);
  const std::byte* in[] = {words.data(), rows.data()};
  const auto n = static_cast<std::size_t>(lanes);
  const double first = fastest(n, [&] { make.run({in, 1}, out.data(), pool); });
  const double second = fastest(n, [&] { sum.run({in, 2}, out.data(), pool); });
  std::printf("%-7.*s  %4lld harmonics  %2lld bits  harmonics %7.2f ns  fourier %7.2f ns\n",
              static_cast<int>(variant.name.size()), variant.name.data(),
              static_cast<long long>(count), static_cast<long long>(ring), first, second);
}

}  // namespace

int main(int argc, char** argv) {
  const long long lanes = argc > 1 ? std::atoll(argv[1]) : 1 << 14;
  for (const auto* variant : kernels::harmonic_variants())
    if (variant->supported(cpu_features()))
      for (const std::int64_t count : {1, 4, 8, 16, 32})
        for (const std::int64_t ring : {64, 32}) measure(*variant, count, ring, lanes);
  return 0;
}
