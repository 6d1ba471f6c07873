#include "kernels/reduce.h"

#include <algorithm>
#include <array>

#include "kernels/limits.h"

namespace mpcc::kernels {
namespace {

// Columns of a task where rows are added: a chunk of the result stays in the first-level cache.
constexpr std::int64_t kChunk = 2048;
// Words that a task reads at least.
constexpr std::int64_t kLeastWords = 8192;

}  // namespace

Reduction::Reduction(const Op& op, const ValueType& operand)
    : wide_(operand.word() == 8), words_(op.types.at(0).lanes) {
  const auto& axes = op.attributes.integers("axes");
  const auto& shape = operand.shape;
  struct Merged {
    std::int64_t size;
    bool summed;
  };
  std::vector<Merged> merged;  // neighbours of one kind are one axis
  for (std::size_t i = 0; i < shape.size(); ++i) {
    const bool summed = std::ranges::find(axes, static_cast<std::int64_t>(i)) != axes.end();
    empty_ = empty_ || (summed && shape[i] == 0);
    if (shape[i] == 1) continue;
    if (!merged.empty() && merged.back().summed == summed)
      merged.back().size *= shape[i];
    else
      merged.push_back({shape[i], summed});
  }
  if (words_ == 0 || empty_) return;
  std::int64_t step = 1;
  if (!merged.empty()) {
    step = merged.back().size;
    (merged.back().summed ? depth_ : width_) = step;
    merged.pop_back();
  }
  for (std::size_t i = merged.size(); i-- > 0;) {
    auto& list = merged[i].summed ? summed_ : kept_;
    list.insert(list.begin(), {merged[i].size, step});
    if (!merged[i].summed) outer_ *= merged[i].size;
    step *= merged[i].size;
  }
}

template <class F>
void Reduction::for_offsets(std::span<const Axis> axes, F&& f) {
  if (axes.empty()) {
    f(std::int64_t{0});
    return;
  }
  std::array<std::int64_t, kMaxRank> index{};
  std::int64_t offset = 0;
  for (;;) {
    f(offset);
    std::size_t i = axes.size();
    while (i-- > 0) {
      offset += axes[i].step;
      if (++index[i] < axes[i].size) break;
      offset -= axes[i].size * axes[i].step;
      index[i] = 0;
    }
    if (i == static_cast<std::size_t>(-1)) return;
  }
}

std::int64_t Reduction::offset_of(std::int64_t index) const {
  std::int64_t offset = 0;
  for (std::size_t i = kept_.size(); i-- > 0;) {
    offset += index % kept_[i].size * kept_[i].step;
    index /= kept_[i].size;
  }
  return offset;
}

void Reduction::run(const std::byte* in, std::byte* out, ThreadPool& pool) const {
  if (wide_)
    run_words(reinterpret_cast<const std::uint64_t*>(in), reinterpret_cast<std::uint64_t*>(out),
              pool);
  else
    run_words(reinterpret_cast<const std::uint32_t*>(in), reinterpret_cast<std::uint32_t*>(out),
              pool);
}

template <class W>
void Reduction::run_words(const W* in, W* out, ThreadPool& pool) const {
  if (empty_ || words_ == 0) {
    std::fill_n(out, words_, W{0});
    return;
  }
  std::int64_t rows = depth_;  // words that are summed for one of the result
  for (const Axis& a : summed_) rows *= a.size;
  const std::int64_t chunks = (width_ + kChunk - 1) / kChunk;
  const std::int64_t chunk = std::min(width_, kChunk);
  const auto least =
      static_cast<std::size_t>(std::max<std::int64_t>(1, kLeastWords / rows / chunk));
  const auto tasks = static_cast<std::size_t>(outer_ * chunks);
  pool.parallel_for(tasks, pool.grain_for(tasks, least), [&](std::size_t begin, std::size_t end) {
    for (auto t = static_cast<std::int64_t>(begin); t < static_cast<std::int64_t>(end); ++t) {
      const std::int64_t column = t % chunks * kChunk;
      const std::int64_t count = std::min(width_ - column, kChunk);
      const W* from = in + offset_of(t / chunks) + column;
      W* to = out + t / chunks * width_ + column;
      if (depth_ > 1) {
        W sum = 0;
        for_offsets(summed_, [&](std::int64_t offset) {
          for (std::int64_t i = 0; i < depth_; ++i) sum += from[offset + i];
        });
        *to = sum;
        continue;
      }
      std::fill_n(to, count, W{0});
      for_offsets(summed_, [&](std::int64_t offset) {
        for (std::int64_t i = 0; i < count; ++i) to[i] += from[offset + i];
      });
    }
  });
}

}  // namespace mpcc::kernels
