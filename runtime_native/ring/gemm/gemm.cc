// Blocking, threads and dispatch: everything about a product that does not depend on the
// instruction set. A task computes one mc x nc block of C over the whole depth of all pairs, with
// its own packing buffers, so tasks share nothing and need no barrier.
#include "ring/gemm/gemm.h"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "base/checked.h"
#include "base/error.h"
#include "ring/gemm/kernel.h"
#include "ring/gemm/strassen.h"
#include "ring/scratch.h"

namespace mpcc::ring {
namespace {

constexpr std::size_t kKernelCount = 0
#define MPCC_GEMM_KERNEL(name) +1
#include "ring/gemm/kernels.inc"
#undef MPCC_GEMM_KERNEL
    ;

constexpr std::array<const GemmKernel<std::uint64_t>*, kKernelCount> kKernels64 = {
#define MPCC_GEMM_KERNEL(name) &internal::name##_u64,
#include "ring/gemm/kernels.inc"
#undef MPCC_GEMM_KERNEL
};
constexpr std::array<const GemmKernel<std::uint32_t>*, kKernelCount> kKernels32 = {
#define MPCC_GEMM_KERNEL(name) &internal::name##_u32,
#include "ring/gemm/kernels.inc"
#undef MPCC_GEMM_KERNEL
};

constexpr std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

template <RingWord W>
const GemmKernel<W>& select_kernel() {
  const Isa limit = chosen_isa();
  const auto kernels = gemm_kernels<W>();
  for (auto it = kernels.rbegin(); it != kernels.rend(); ++it) {
    const GemmKernel<W>& k = **it;
    if (k.isa > limit || !cpu_features().supports(k.isa)) continue;
    if (self_check(k)) return k;
    std::fprintf(stderr,
                 "mpcc: WARNING: ring GEMM variant %.*s disagrees with the reference on this "
                 "machine and is not used\n",
                 static_cast<int>(k.name.size()), k.name.data());
  }
  throw Error("E-ring-self-check", "no ring GEMM variant agrees with the reference");
}

template <RingWord W>
void check_shapes(std::span<const GemmPair<W>> pairs, const Matrix<W>& c) {
  const auto view_ok = [](std::size_t rows, std::size_t cols, std::size_t ld, const void* data) {
    return rows == 0 || cols == 0 || (data != nullptr && (ld >= cols || rows == 1));
  };
  require(view_ok(c.rows, c.cols, c.ld, c.data), "E-ring-shape", "result view is inconsistent");
  for (const GemmPair<W>& p : pairs) {
    const std::size_t b_rows = p.packed ? p.packed->rows() : p.b.rows;
    const std::size_t b_cols = p.packed ? p.packed->cols() : p.b.cols;
    require(view_ok(p.a.rows, p.a.cols, p.a.ld, p.a.data) &&
                (p.packed || view_ok(p.b.rows, p.b.cols, p.b.ld, p.b.data)),
            "E-ring-shape", "operand view is inconsistent");
    if (p.a.rows != c.rows || b_cols != c.cols || p.a.cols != b_rows)
      throw Error("E-ring-shape", "cannot multiply [" + std::to_string(p.a.rows) + ", " +
                                      std::to_string(p.a.cols) + "] by [" + std::to_string(b_rows) +
                                      ", " + std::to_string(b_cols) + "] into [" +
                                      std::to_string(c.rows) + ", " + std::to_string(c.cols) + "]");
  }
}

template <RingWord W>
const GemmKernel<W>& common_kernel(std::span<const GemmPair<W>> pairs,
                                   const GemmKernel<W>* kernel) {
  for (const GemmPair<W>& p : pairs) {
    if (!p.packed) continue;
    if (kernel == nullptr) kernel = &p.packed->kernel();
    if (kernel != &p.packed->kernel())
      throw Error("E-ring-kernel", "weights packed for variant " +
                                       std::string(p.packed->kernel().name) +
                                       " cannot be used by variant " + std::string(kernel->name));
  }
  return kernel != nullptr ? *kernel : gemm_kernel<W>();
}

template <RingWord W>
void clear(const Matrix<W>& c) {
  for (std::size_t i = 0; i < c.rows; ++i) std::fill_n(c.data + i * c.ld, c.cols, W{0});
}

// M = 1 (or few), right operands in place: rows of B are streamed once, `kTerms` at a time so that
// C is read and written once per kTerms products.
template <RingWord W>
void few_rows(std::span<const GemmPair<W>> pairs, const Matrix<W>& c, bool accumulate,
              ThreadPool& pool, const GemmKernel<W>& kernel) {
  constexpr std::size_t kTerms = 8;
  const std::size_t grain = pool.grain_for(c.cols, 512 / sizeof(W));
  pool.parallel_for(c.cols, grain, [&](std::size_t begin, std::size_t end) {
    bool add = accumulate;
    for (const GemmPair<W>& p : pairs)
      for (std::size_t k = 0; k < p.a.cols; k += kTerms) {
        const std::size_t terms = std::min(kTerms, p.a.cols - k);
        std::array<const W*, kTerms> rows{};
        for (std::size_t t = 0; t < terms; ++t) rows[t] = p.b.data + (k + t) * p.b.ld + begin;
        for (std::size_t i = 0; i < c.rows; ++i)
          kernel.combine(end - begin, terms, rows.data(), p.a.data + i * p.a.ld + k,
                         c.data + i * c.ld + begin, add);
        add = true;
      }
  });
}

// N = 1 (or few): rows of A against each column of B, which is copied so that it is contiguous.
template <RingWord W>
void few_columns(std::span<const GemmPair<W>> pairs, const Matrix<W>& c, bool accumulate,
                 ThreadPool& pool, const GemmKernel<W>& kernel) {
  bool add = accumulate;
  for (const GemmPair<W>& p : pairs) {
    const std::size_t k = p.a.cols;
    if (k == 0) continue;
    W* columns = internal::scratch<W>(internal::Slot::rhs, checked_mul(k, c.cols));
    for (std::size_t i = 0; i < k; ++i)
      for (std::size_t j = 0; j < c.cols; ++j) columns[j * k + i] = p.b.data[i * p.b.ld + j];
    const std::size_t grain = pool.grain_for(c.rows, std::max<std::size_t>(1, 8192 / k));
    pool.parallel_for(c.rows, grain, [&](std::size_t begin, std::size_t end) {
      for (std::size_t j = 0; j < c.cols; ++j)
        kernel.dots(end - begin, k, p.a.data + begin * p.a.ld, p.a.ld, columns + j * k,
                    c.data + begin * c.ld + j, c.ld, add);
    });
    add = true;
  }
}

// Up to this many rows or columns, nothing is packed.
constexpr std::size_t kFewRows = 3;
constexpr std::size_t kFewColumns = 2;

// Rows and columns of a task: cache blocks, cut further until every thread has a few tasks.
struct Blocks {
  std::size_t rows, cols;
};

template <RingWord W>
Blocks cut(std::size_t rows, std::size_t cols, int threads, const GemmKernel<W>& kernel) {
  std::size_t mc = std::min(round_up(kernel.mc, kernel.mr), round_up(rows, kernel.mr));
  std::size_t nc = std::min(round_up(kernel.nc, kernel.nr), round_up(cols, kernel.nr));
  const auto tasks = [&] { return ((rows + mc - 1) / mc) * ((cols + nc - 1) / nc); };
  const auto wanted = static_cast<std::size_t>(threads == 1 ? 1 : 3 * threads);
  while (tasks() < wanted && (nc > 4 * kernel.nr || mc > 4 * kernel.mr)) {
    if (nc > 4 * kernel.nr && nc >= mc)
      nc = round_up(nc / 2, kernel.nr);
    else if (mc > 4 * kernel.mr)
      mc = round_up(mc / 2, kernel.mr);
    else
      nc = round_up(nc / 2, kernel.nr);
  }
  return {mc, nc};
}

template <RingWord W>
void block(std::span<const GemmPair<W>> pairs, const Matrix<W>& c, std::size_t row0,
           std::size_t rows, std::size_t col0, std::size_t cols, bool accumulate,
           const GemmKernel<W>& kernel) {
  const std::size_t mr = kernel.mr;
  const std::size_t nr = kernel.nr;
  bool add = accumulate;
  for (const GemmPair<W>& p : pairs)
    for (std::size_t k0 = 0; k0 < p.a.cols; k0 += kernel.kc) {
      const std::size_t depth = std::min(kernel.kc, p.a.cols - k0);
      const std::size_t padded = kernel.panel_depth(depth);
      W* lhs = internal::scratch<W>(internal::Slot::lhs, checked_mul(round_up(rows, mr), padded));
      for (std::size_t i = 0; i < rows; i += mr)
        kernel.pack_lhs(p.a.data + (row0 + i) * p.a.ld + k0, p.a.ld, std::min(mr, rows - i), depth,
                        lhs + i * padded);
      const W* packed = p.packed ? p.packed->panels().panel(k0, col0 / nr) : nullptr;
      W* rhs = nullptr;
      if (!p.packed) {
        rhs = internal::scratch<W>(internal::Slot::rhs, checked_mul(round_up(cols, nr), padded));
        for (std::size_t j = 0; j < cols; j += nr)
          kernel.pack_rhs(p.b.data + k0 * p.b.ld + col0 + j, p.b.ld, depth, std::min(nr, cols - j),
                          rhs + j * padded);
      }
      for (std::size_t j = 0; j < cols; j += nr) {
        const W* panel = (p.packed ? packed : rhs) + j * padded;
        for (std::size_t i = 0; i < rows; i += mr)
          kernel.tile(depth, lhs + i * padded, panel, c.data + (row0 + i) * c.ld + col0 + j, c.ld,
                      std::min(mr, rows - i), std::min(nr, cols - j), add);
      }
      add = true;
    }
}

}  // namespace

template <>
std::span<const GemmKernel<std::uint64_t>* const> gemm_kernels() noexcept {
  return kKernels64;
}

template <>
std::span<const GemmKernel<std::uint32_t>* const> gemm_kernels() noexcept {
  return kKernels32;
}

template <RingWord W>
const GemmKernel<W>& gemm_kernel() {
  static const GemmKernel<W>& kernel = select_kernel<W>();
  return kernel;
}

namespace internal {

template <RingWord W>
Panels<W>::Panels(const GemmKernel<W>& kernel, std::size_t width, std::size_t extent,
                  std::size_t depth)
    : width_(width),
      count_(checked_add(extent, width - 1) / width),
      depth_(depth),
      kernel_(&kernel) {
  data_ = SecretBuffer(bytes_for(kernel, width, extent, depth));
}

template <RingWord W>
std::size_t Panels<W>::bytes_for(const GemmKernel<W>& kernel, std::size_t width, std::size_t extent,
                                 std::size_t depth) {
  const std::size_t rows = checked_mul(checked_add(extent, width - 1) / width, width);
  const std::size_t blocks = depth / kernel.kc;
  const std::size_t rest = depth % kernel.kc;
  const std::size_t words = checked_add(checked_mul(blocks, kernel.panel_depth(kernel.kc)),
                                        rest == 0 ? std::size_t{0} : kernel.panel_depth(rest));
  return checked_mul(checked_mul(rows, words), sizeof(W));
}

template <RingWord W>
W* Panels<W>::at(std::size_t k0, std::size_t index) const noexcept {
  const std::size_t kc = kernel_->kc;
  const std::size_t panel = kernel_->panel_depth(std::min(kc, depth_ - k0));
  // The blocks before this one are full.
  auto* words = reinterpret_cast<W*>(const_cast<std::byte*>(data_.data()));
  return words + k0 / kc * kernel_->panel_depth(kc) * count_ * width_ + index * panel * width_;
}

template class Panels<std::uint32_t>;
template class Panels<std::uint64_t>;

}  // namespace internal

template <RingWord W>
PackedMatrix<W>::PackedMatrix(ConstMatrix<W> b, const GemmKernel<W>* kernel)
    : rows_(b.rows),
      cols_(b.cols),
      kernel_(kernel != nullptr ? kernel : &gemm_kernel<W>()),
      panels_(*kernel_, kernel_->nr, b.cols, b.rows) {
  require(b.ld >= b.cols || b.rows <= 1, "E-ring-shape", "weights view is inconsistent");
  for (std::size_t k0 = 0; k0 < rows_; k0 += kernel_->kc)
    for (std::size_t j = 0; j < cols_; j += kernel_->nr)
      kernel_->pack_rhs(b.data + k0 * b.ld + j, b.ld, std::min(kernel_->kc, rows_ - k0),
                        std::min(kernel_->nr, cols_ - j), panels_.panel(k0, j / kernel_->nr));
}

template <RingWord W>
std::size_t PackedMatrix<W>::bytes_for(std::size_t rows, std::size_t cols,
                                       const GemmKernel<W>* kernel) {
  const GemmKernel<W>& k = kernel != nullptr ? *kernel : gemm_kernel<W>();
  return internal::Panels<W>::bytes_for(k, k.nr, cols, rows);
}

template <RingWord W>
bool gemm_cuts(std::size_t rows, std::size_t depth, std::size_t cols, const GemmKernel<W>* wanted) {
  const GemmKernel<W>& kernel = wanted != nullptr ? *wanted : gemm_kernel<W>();
  return internal::strassen_levels(kernel, rows, depth, cols) != 0;
}

template <RingWord W>
internal::Scratch gemm_scratch(std::size_t rows, std::size_t depth, std::size_t cols,
                               bool any_packed, bool all_packed, int threads,
                               const GemmKernel<W>* wanted) {
  internal::Scratch scratch;
  if (rows == 0 || cols == 0 || depth == 0) return scratch;
  const GemmKernel<W>& kernel = wanted != nullptr ? *wanted : gemm_kernel<W>();
  if (!any_packed && cols <= kFewColumns) {
    scratch.need(internal::Slot::rhs, checked_mul(depth, cols), sizeof(W));
    return scratch;
  }
  if (!any_packed && rows <= kFewRows) return scratch;
  if (const int levels = any_packed ? 0 : internal::strassen_levels(kernel, rows, depth, cols))
    return internal::strassen_scratch(rows, depth, cols, levels, threads, kernel);
  const Blocks blocks = cut(rows, cols, threads, kernel);
  const std::size_t padded = kernel.panel_depth(std::min(kernel.kc, depth));
  const std::size_t most_rows = round_up(std::min(blocks.rows, rows), kernel.mr);
  const std::size_t most_cols = round_up(std::min(blocks.cols, cols), kernel.nr);
  scratch.need(internal::Slot::lhs, checked_mul(most_rows, padded), sizeof(W));
  if (!all_packed) scratch.need(internal::Slot::rhs, checked_mul(most_cols, padded), sizeof(W));
  return scratch;
}

template <RingWord W>
void gemm(std::span<const GemmPair<W>> pairs, Matrix<W> c, bool accumulate, ThreadPool& pool,
          const GemmKernel<W>* wanted) {
  check_shapes(pairs, c);
  if (c.rows == 0 || c.cols == 0) return;
  const bool any =
      std::any_of(pairs.begin(), pairs.end(), [](const GemmPair<W>& p) { return p.a.cols != 0; });
  if (!any) {
    if (!accumulate) clear(c);
    return;
  }
  const GemmKernel<W>& kernel = common_kernel(pairs, wanted);

  const bool packed = std::any_of(pairs.begin(), pairs.end(),
                                  [](const GemmPair<W>& p) { return p.packed != nullptr; });
  if (!packed && c.cols <= kFewColumns) return few_columns(pairs, c, accumulate, pool, kernel);
  if (!packed && c.rows <= kFewRows) return few_rows(pairs, c, accumulate, pool, kernel);

  // All pairs alike: what is counted beforehand is one working memory.
  const auto levels_of = [&](const GemmPair<W>& p) {
    return internal::strassen_levels(kernel, c.rows, p.a.cols, c.cols);
  };
  const int levels = packed ? 0 : levels_of(pairs[0]);
  const auto as_first = [&](const GemmPair<W>& p) { return levels_of(p) == levels; };
  if (levels != 0 && std::all_of(pairs.begin(), pairs.end(), as_first))
    return internal::strassen(pairs, c, accumulate, levels, pool, kernel);

  const auto [mc, nc] = cut(c.rows, c.cols, pool.threads(), kernel);
  const std::size_t across = (c.cols + nc - 1) / nc;
  const std::size_t tasks = (c.rows + mc - 1) / mc * across;
  pool.parallel_for(tasks, 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) {
      const std::size_t row0 = t / across * mc;
      const std::size_t col0 = t % across * nc;
      block(pairs, c, row0, std::min(mc, c.rows - row0), col0, std::min(nc, c.cols - col0),
            accumulate, kernel);
    }
  });
}

template <RingWord W>
bool self_check(const GemmKernel<W>& kernel) {
  const std::size_t m = kernel.mr + 1;
  const std::size_t n = kernel.nr + 1;
  const std::size_t k = kernel.kq + 5;
  // Fixed words: a multiplicative sequence with extreme values mixed in (all ones exercises every
  // carry of a limb decomposition).
  std::uint64_t state = 1;
  const auto words = [&state](std::size_t count) {
    std::vector<W> v(count);
    for (std::size_t i = 0; i < count; ++i) {
      state = state * 6364136223846793005ULL + 1442695040888963407ULL;
      v[i] = i % 5 == 0 ? ~W{0} : static_cast<W>(state >> (64 - 8 * sizeof(W)));
    }
    return v;
  };
  const std::vector<W> a = words(m * k), b = words(k * n), start = words(m * n);
  ThreadPool pool(1);
  const auto agrees = [&](std::size_t rows, std::size_t cols) {
    const GemmPair<W> pair{.a = {a.data(), rows, k, k}, .b = {b.data(), k, cols, n}};
    const std::array<GemmPair<W>, 2> pairs = {pair, pair};
    std::vector<W> got = start, want = start;
    gemm<W>(pairs, {got.data(), rows, cols, n}, true, pool, &kernel);
    gemm_reference<W>(pairs, {want.data(), rows, cols, n}, true);
    return got == want;
  };
  // A gathered panel is the packed one, whether its columns follow each other or not.
  const auto gathers = [&](bool reversed) {
    std::vector<std::size_t> row(k), column(kernel.nr);
    std::vector<W> dense(k * kernel.nr);
    for (std::size_t j = 0; j < kernel.nr; ++j) column[j] = reversed ? kernel.nr - 1 - j : j;
    for (std::size_t i = 0; i < k; ++i) {
      row[i] = i * n;
      for (std::size_t j = 0; j < kernel.nr; ++j) dense[i * kernel.nr + j] = b[row[i] + column[j]];
    }
    const std::size_t bytes = kernel.panel_depth(k) * kernel.nr * sizeof(W);
    SecretBuffer packed(bytes), gathered(bytes);  // aligned as panels are
    kernel.pack_rhs(dense.data(), kernel.nr, k, kernel.nr, packed.template as<W>().data());
    kernel.gather_rhs(b.data(), row.data(), column.data(), k, gathered.template as<W>().data());
    return std::memcmp(packed.data(), gathered.data(), bytes) == 0;
  };
  // Long enough for all ways in which a sum is cut into vectors.
  const auto sums = [&] {
    const std::size_t length = m * n;
    const std::array<const W*, 3> rows = {a.data(), b.data(), start.data()};
    const std::size_t shortest = std::min({length, a.size(), b.size()});
    std::vector<W> got(shortest), want(shortest);
    for (std::size_t i = 0; i < shortest; ++i) want[i] = a[i] - b[i] + start[i];
    kernel.sum(shortest, rows.size(), rows.data(), 2, got.data());
    return got == want;
  };
  return agrees(m, n) && agrees(1, n) && agrees(m, 1) && agrees(kernel.mr, kernel.nr) && sums() &&
         gathers(false) && gathers(true);
}

#define MPCC_INSTANTIATE(W)                                                                     \
  template const GemmKernel<W>& gemm_kernel<W>();                                               \
  template bool self_check<W>(const GemmKernel<W>&);                                            \
  template class PackedMatrix<W>;                                                               \
  template bool gemm_cuts<W>(std::size_t, std::size_t, std::size_t, const GemmKernel<W>*);      \
  template internal::Scratch gemm_scratch<W>(std::size_t, std::size_t, std::size_t, bool, bool, \
                                             int, const GemmKernel<W>*);                        \
  template void gemm<W>(std::span<const GemmPair<W>>, Matrix<W>, bool, ThreadPool&,             \
                        const GemmKernel<W>*);
MPCC_INSTANTIATE(std::uint32_t)
MPCC_INSTANTIATE(std::uint64_t)
#undef MPCC_INSTANTIATE

}  // namespace mpcc::ring
