#include "kernels/harmonics.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <string>

#include "kernels/demand.h"

namespace mpcc::kernels {

#define X(name) extern const HarmonicVariant name;
#include "kernels/harmonics/kernels.inc"
#undef X

namespace {

constexpr std::array kVariants = {
#define X(name) &name,
#include "kernels/harmonics/kernels.inc"
#undef X
};

// Harmonics of a block that a task computes at least, over all its lanes.
constexpr std::size_t kLeastHarmonics = 128;
// Products that one harmonic of a lane takes, about: as turns, and as coefficients with their sums.
constexpr std::uint64_t kWorkPerHarmonic = 4;

HarmonicParams angle_of(const Attributes& a) {
  HarmonicParams p;
  const auto period = static_cast<int>(a.integer("period"));
  p.multiplier = static_cast<std::uint64_t>(a.integer("multiplier"));
  p.precision = static_cast<int>(a.integer("precision"));
  if (period <= 32) {
    p.left = 32 - period;
  } else {
    p.right = period - 32;
    p.half = std::uint64_t{1} << (p.right - 1);
  }
  return p;
}

// Both kernels on pseudo-random words, in all combinations of rings.
bool agrees_with_scalar(const HarmonicVariant& variant) {
  constexpr std::size_t kLanes = 2 * kHarmonicLanes + 5;
  constexpr std::size_t kCount = 7;
  std::uint64_t state = 1;
  const auto word = [&] {
    state = state * 6364136223846793005ULL + 1442695040888963407ULL;
    return state ^ (state >> 31);
  };
  std::vector<std::uint64_t> x(kLanes * (1 + 2 * kCount));
  for (auto& w : x) w = word();
  HarmonicParams p;
  p.count = kCount;
  p.precision = 21;
  p.rows = 2 * kCount;
  p.right = 8;
  p.half = 128;
  p.multiplier = word();
  p.shift = 23;
  for (std::size_t k = 0; k < kCount; ++k) {
    p.cos.push_back(static_cast<std::int32_t>(word() >> 42));
    p.sin.push_back(-static_cast<std::int32_t>(word() >> 42));
  }
  std::array<const void*, 2 * kCount> rows{};
  for (std::size_t j = 0; j < rows.size(); ++j) rows[j] = x.data() + (j + 1) * kLanes;
  for (const bool wide_x : {false, true})
    for (const bool wide : {false, true}) {
      std::vector<std::uint64_t> expected(2 * kLanes * (1 + 2 * kCount));
      std::vector<std::uint64_t> got = expected;
      const auto run = [&](const HarmonicVariant& by, std::vector<std::uint64_t>& out) {
        by.harmonics[wide_x][wide](p, x.data(), out.data(), kLanes, 0, kLanes);
        by.fourier[wide_x][wide](p, x.data(), rows.data(), out.data() + 2 * kLanes * kCount, 0,
                                 kLanes);
      };
      run(*kVariants[0], expected);
      run(variant, got);
      if (expected != got) return false;
    }
  return true;
}

// Whether each variant agrees with the scalar one, found once per process.
const std::array<bool, kVariants.size()>& trusted() {
  static const auto found = [] {
    std::array<bool, kVariants.size()> ok{true};
    for (std::size_t i = 1; i < kVariants.size(); ++i) {
      if (!kVariants[i]->supported(cpu_features())) continue;
      ok[i] = agrees_with_scalar(*kVariants[i]);
      if (!ok[i])
        std::fprintf(stderr, "mpcc: harmonics %s fail their self-check and are not used\n",
                     std::string(kVariants[i]->name).c_str());
    }
    return ok;
  }();
  return found;
}

}  // namespace

std::span<const HarmonicVariant* const> harmonic_variants() noexcept { return kVariants; }

const HarmonicVariant& harmonic_variant(Isa wanted) {
  for (std::size_t i = kVariants.size(); i-- > 1;)
    if (kVariants[i]->isa <= wanted && trusted()[i]) return *kVariants[i];
  return *kVariants[0];
}

bool is_harmonic(OpCode code) noexcept {
  return code == OpCode::Harmonics || code == OpCode::Fourier;
}

Harmonic::Harmonic(const Op& op, std::span<const ValueType> operands, Isa isa)
    : variant_(harmonic_variant(isa)),
      params_(angle_of(op.attributes)),
      fourier_(op.code == OpCode::Fourier),
      wide_x_(operands[0].word() == 8),
      wide_(op.types.at(0).word() == 8),
      lanes_(operands[0].lanes) {
  const Attributes& a = op.attributes;
  if (!fourier_) {
    params_.first = static_cast<std::size_t>(a.integer("first"));
    params_.rows = static_cast<std::size_t>(a.integer("rows"));
    params_.count = (params_.first + params_.rows + 1) / 2;
    return;
  }
  for (const std::int64_t v : a.integers("cos"))
    params_.cos.push_back(static_cast<std::int32_t>(v));
  for (const std::int64_t v : a.integers("sin"))
    params_.sin.push_back(static_cast<std::int32_t>(v));
  params_.count = params_.cos.size();
  params_.shift = 30 + static_cast<int>(a.integer("coefficient_frac")) - params_.precision;
  for (const ValueType& m : operands.subspan(1))
    rows_.push_back(static_cast<std::size_t>(m.shape[0]));
}

void Harmonic::run(std::span<const std::byte* const> in, std::byte* out, ThreadPool& pool) const {
  const std::size_t blocks = (lanes_ + kHarmonicLanes - 1) / kHarmonicLanes;
  const std::size_t least = kLeastHarmonics / params_.count + 1;
  std::vector<const void*> rows;
  for (std::size_t i = 0; i < rows_.size(); ++i)
    for (std::size_t j = 0; j < rows_[i]; ++j)
      rows.push_back(in[i + 1] + j * lanes_ * (wide_ ? 8 : 4));
  pool.parallel_for(blocks, pool.grain_for(blocks, least), [&](std::size_t begin, std::size_t end) {
    const std::size_t from = begin * kHarmonicLanes;
    const std::size_t to = std::min(end * kHarmonicLanes, lanes_);
    if (fourier_)
      variant_.fourier[wide_x_][wide_](params_, in[0], rows.data(), out, from, to);
    else
      variant_.harmonics[wide_x_][wide_](params_, in[0], out, lanes_, from, to);
  });
}

std::uint64_t harmonic_work(const Op& op, std::span<const ValueType> operands) {
  const Attributes& a = op.attributes;
  const bool fourier = op.code == OpCode::Fourier;
  const std::uint64_t count =
      fourier ? a.integers("cos").size()
              : static_cast<std::uint64_t>(a.integer("first") + a.integer("rows") + 1) / 2;
  const std::uint64_t each = kWorkPerHarmonic * (fourier ? 3 : 1);
  return product_of(operands[0].lanes, count * each);
}

}  // namespace mpcc::kernels
