#include "ring/gemm/strassen.h"

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.h"

namespace mpcc::ring::internal {
namespace {

// Signs of the parts (0,0) (0,1) (1,0) (1,1): of the two sums that are multiplied, and with which
// the product is added to parts of C.
struct Product {
  std::array<signed char, 4> a, b, c;
};

constexpr std::size_t kProducts = 7;
constexpr std::array<Product, kProducts> kStrassen = {{
    {{1, 0, 0, 1}, {1, 0, 0, 1}, {1, 0, 0, 1}},
    {{0, 0, 1, 1}, {1, 0, 0, 0}, {0, 0, 1, -1}},
    {{1, 0, 0, 0}, {0, 1, 0, -1}, {0, 1, 0, 1}},
    {{0, 0, 0, 1}, {-1, 0, 1, 0}, {1, 0, 1, 0}},
    {{1, 1, 0, 0}, {0, 0, 0, 1}, {-1, 1, 0, 0}},
    {{-1, 0, 1, 0}, {1, 1, 0, 0}, {0, 0, 0, 1}},
    {{0, 1, 0, -1}, {0, 0, 1, 1}, {1, 0, 0, 0}},
}};

constexpr std::size_t kMostTerms = std::size_t{1} << kMostLevels;
// Products that a part of C is a sum of, itself included.
constexpr std::size_t kMostSummands = 5;

constexpr std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

// A signed sum of parts of a matrix.
struct Terms {
  struct Term {
    std::size_t row, col;
    bool negative;
  };
  std::array<Term, kMostTerms> term{};
  std::size_t count = 0;

  // The sum whose every part is cut again, and is a sum of its own parts.
  Terms cut(const std::array<signed char, 4>& signs) const {
    Terms finer;
    for (std::size_t t = 0; t < count; ++t)
      for (std::size_t s = 0; s < 4; ++s)
        if (signs[s] != 0)
          finer.term[finer.count++] = {2 * term[t].row + s / 2, 2 * term[t].col + s % 2,
                                       term[t].negative != (signs[s] < 0)};
    return finer;
  }
};

// Signs that pick one part.
std::array<signed char, 4> only(std::size_t part) {
  std::array<signed char, 4> signs{};
  signs[part] = 1;
  return signs;
}

constexpr Terms kWhole{{{{0, 0, false}}}, 1};

// Sizes of parts and of what is held at once. The whole product is done region by region, each of
// parts^3 parts.
struct Layout {
  std::size_t parts;              // along each dimension
  std::size_t rows, depth, cols;  // of a part
  std::size_t block_rows, block_cols;
  std::size_t strip;  // columns of B that are summed before they are packed
};

// Rows and columns of a part at most: more than the blocks of a plain product have, so that sizes
// just above what one region of such parts holds do not fall into two of half-sized parts.
constexpr std::size_t kPart = 384;
// Long rows, since most of what is added to C comes from memory.
constexpr std::size_t kBlockRows = 20;
constexpr std::size_t kBlockCols = 256;
constexpr std::size_t kStrip = 32;

std::size_t part_of(std::size_t n, std::size_t parts, std::size_t most, std::size_t multiple) {
  const std::size_t regions = std::max<std::size_t>(1, (n + parts * most - 1) / (parts * most));
  const std::size_t region = (n + regions - 1) / regions;
  return round_up(std::max<std::size_t>(1, (region + parts - 1) / parts), multiple);
}

template <RingWord W>
Layout layout_of(std::size_t rows, std::size_t depth, std::size_t cols, int levels, int threads,
                 const GemmKernel<W>& kernel) {
  Layout p{};
  p.parts = std::size_t{1} << levels;
  p.rows = part_of(rows, p.parts, kPart, kernel.mr);
  p.cols = part_of(cols, p.parts, kPart, kernel.nr);
  // kc is a multiple of kq, so this stays within it.
  p.depth = part_of(depth, p.parts, kernel.kc, kernel.kq);
  p.block_rows = std::min(p.rows, round_up(kBlockRows, kernel.mr));
  p.block_cols = std::min(p.cols, round_up(kBlockCols, kernel.nr));
  p.strip = std::min(p.cols, round_up(kStrip, kernel.nr));
  // Every thread should have a few blocks of a part.
  const auto blocks = [&] {
    return ((p.rows - 1) / p.block_rows + 1) * ((p.cols - 1) / p.block_cols + 1);
  };
  const auto wanted = static_cast<std::size_t>(threads == 1 ? 1 : 3 * threads);
  while (blocks() < wanted && p.block_cols > 4 * kernel.nr)
    p.block_cols = round_up(p.block_cols / 2, kernel.nr);
  return p;
}

// Words of the panels of all sums of the last level: left, and right behind them.
template <RingWord W>
std::size_t left_words(const Layout& p, const GemmKernel<W>& kernel) {
  return round_up(
      checked_mul(checked_mul(kProducts, p.rows), kernel.panel_depth(p.depth), "product"),
      SecretBuffer::kAlignment / sizeof(W));
}

template <RingWord W>
std::size_t panel_words(const Layout& p, const GemmKernel<W>& kernel) {
  return checked_add(left_words(p, kernel), checked_mul(checked_mul(kProducts, p.cols),
                                                        kernel.panel_depth(p.depth), "product"));
}

// Words that a thread sums up in before it packs, or holds products of a block in.
template <RingWord W>
std::size_t sum_words(const Layout& p, const GemmKernel<W>& kernel) {
  // Four parts and a sum.
  return std::max({checked_mul(std::size_t{5}, checked_mul(kernel.mr, p.depth)),
                   checked_mul(std::size_t{5}, checked_mul(p.strip, p.depth)),
                   checked_mul(kProducts, checked_mul(p.block_rows, p.block_cols))});
}

// How much of [begin, begin + most) lies below `end`.
std::size_t inside(std::size_t begin, std::size_t most, std::size_t end) {
  return begin >= end ? 0 : std::min(most, end - begin);
}

// One region: a [rows, depth] x b [depth, cols], added to c.
template <RingWord W>
class Region {
 public:
  Region(const Layout& layout, const GemmKernel<W>& kernel, ConstMatrix<W> a, ConstMatrix<W> b,
         Matrix<W> c, ThreadPool& pool)
      : p_(layout), kernel_(kernel), a_(a), b_(b), c_(c), pool_(pool) {
    panel_ = kernel.panel_depth(p_.depth);
    lhs_ = scratch<W>(Slot::panels, panel_words(p_, kernel));
    rhs_ = lhs_ + left_words(p_, kernel);
  }

  // `levels` are still to be cut; the sums so far are a, b, and c says where their product goes.
  void run(int levels, const Terms& a, const Terms& b, const Terms& c) {
    if (levels > 1) {
      for (const Product& product : kStrassen)
        run(levels - 1, a.cut(product.a), b.cut(product.b), c.cut(product.c));
      return;
    }
    pool_.parallel_for(p_.rows / kernel_.mr, 4, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) pack_left(a, i * kernel_.mr);
    });
    pool_.parallel_for((p_.cols + p_.strip - 1) / p_.strip, 1,
                       [&](std::size_t begin, std::size_t end) {
                         for (std::size_t i = begin; i < end; ++i) pack_right(b, i * p_.strip);
                       });
    const std::size_t across = (p_.cols + p_.block_cols - 1) / p_.block_cols;
    const std::size_t down = (p_.rows + p_.block_rows - 1) / p_.block_rows;
    pool_.parallel_for(down * across, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t t = begin; t < end; ++t)
        multiply(c, t / across * p_.block_rows, t % across * p_.block_cols);
    });
  }

 private:
  // to[0, width) = the sum of the terms' rows `row`, columns [col, col + width) of parts of
  // [part_rows, part_cols]; zeros beyond the edges of m.
  void sum_row(const ConstMatrix<W>& m, const Terms& terms, std::size_t part_rows,
               std::size_t part_cols, std::size_t row, std::size_t col, std::size_t width,
               W* to) const {
    std::array<const W*, kMostTerms> from{};
    unsigned negative = 0;
    std::size_t count = 0;
    std::size_t shortest = width;
    for (std::size_t t = 0; t < terms.count; ++t) {
      const std::size_t i = terms.term[t].row * part_rows + row;
      const std::size_t j = terms.term[t].col * part_cols + col;
      const std::size_t there = i < m.rows ? inside(j, width, m.cols) : 0;
      if (there == 0) continue;
      shortest = std::min(shortest, there);
      negative |= (terms.term[t].negative ? 1U : 0U) << count;
      from[count++] = m.data + i * m.ld + j;
    }
    if (shortest == width) return kernel_.sum(width, count, from.data(), negative, to);
    std::memset(to, 0, width * sizeof(W));
    for (std::size_t t = 0; t < terms.count; ++t) {
      const std::size_t i = terms.term[t].row * part_rows + row;
      const std::size_t j = terms.term[t].col * part_cols + col;
      const std::size_t there = i < m.rows ? inside(j, width, m.cols) : 0;
      for (std::size_t k = 0; k < there; ++k) {
        const W word = m.data[i * m.ld + j + k];
        to[k] += terms.term[t].negative ? W{0} - word : word;
      }
    }
  }

  // The words that pack(sum, ld, product) gets for every product: sums of `lines` by `width` words,
  // which begin at (row, col) of the parts of m that `terms` and the last cut name. The four parts
  // of the last cut are gathered first: they lie together then, and are read once.
  template <class Pack>
  void pack_sums(const ConstMatrix<W>& m, const Terms& terms,
                 const std::array<signed char, 4> Product::* signs, std::size_t part_rows,
                 std::size_t part_cols, std::size_t row, std::size_t col, std::size_t lines,
                 std::size_t width, const Pack& pack) const {
    const std::size_t words = lines * width;
    W* parts = scratch<W>(Slot::sums, sum_words(p_, kernel_));
    W* sum = parts + 4 * words;
    for (std::size_t s = 0; s < 4; ++s) {
      const Terms of_part = terms.cut(only(s));
      for (std::size_t i = 0; i < lines; ++i)
        sum_row(m, of_part, part_rows, part_cols, row + i, col, width,
                parts + s * words + i * width);
    }
    for (std::size_t q = 0; q < kProducts; ++q) {
      std::array<const W*, 2> from{};
      unsigned negative = 0;
      std::size_t count = 0;
      for (std::size_t s = 0; s < 4; ++s) {
        const signed char sign = (kStrassen[q].*signs)[s];
        if (sign == 0) continue;
        negative |= (sign < 0 ? 1U : 0U) << count;
        from[count++] = parts + s * words;
      }
      if (count == 1) {
        pack(from[0], width, q);
        continue;
      }
      kernel_.sum(words, count, from.data(), negative, sum);
      pack(sum, width, q);
    }
  }

  void pack_left(const Terms& a, std::size_t row) const {
    pack_sums(a_, a, &Product::a, p_.rows, p_.depth, row, 0, kernel_.mr, p_.depth,
              [&](const W* sum, std::size_t ld, std::size_t product) {
                kernel_.pack_lhs(sum, ld, kernel_.mr, p_.depth, left(product, row));
              });
  }

  void pack_right(const Terms& b, std::size_t col) const {
    const std::size_t width = std::min(p_.strip, p_.cols - col);
    pack_sums(b_, b, &Product::b, p_.depth, p_.cols, 0, col, p_.depth, width,
              [&](const W* sum, std::size_t ld, std::size_t product) {
                for (std::size_t j = 0; j < width; j += kernel_.nr)
                  kernel_.pack_rhs(sum + j, ld, p_.depth, kernel_.nr, right(product, col + j));
              });
  }

  // The block at (row, col) of the seven products, added to where it belongs.
  void multiply(const Terms& c, std::size_t row, std::size_t col) const {
    const std::size_t rows = std::min(p_.block_rows, p_.rows - row);
    const std::size_t cols = std::min(p_.block_cols, p_.cols - col);
    const std::size_t block = p_.block_rows * p_.block_cols;
    W* products = scratch<W>(Slot::sums, sum_words(p_, kernel_));
    for (std::size_t q = 0; q < kProducts; ++q)
      for (std::size_t i = 0; i < rows; i += kernel_.mr)
        for (std::size_t j = 0; j < cols; j += kernel_.nr)
          kernel_.tile(p_.depth, left(q, row + i), right(q, col + j),
                       products + q * block + i * p_.block_cols + j, p_.block_cols, kernel_.mr,
                       kernel_.nr, false);
    for (std::size_t s = 0; s < 4; ++s) {
      const Terms terms = c.cut(only(s));
      for (std::size_t t = 0; t < terms.count; ++t) {
        const std::size_t to_row = terms.term[t].row * p_.rows + row;
        const std::size_t to_col = terms.term[t].col * p_.cols + col;
        const std::size_t width = inside(to_col, cols, c_.cols);
        const std::size_t height = width == 0 ? 0 : inside(to_row, rows, c_.rows);
        for (std::size_t i = 0; i < height; ++i) {
          W* to = c_.data + (to_row + i) * c_.ld + to_col;
          std::array<const W*, kMostSummands> from{to};
          unsigned negative = 0;
          std::size_t count = 1;
          for (std::size_t q = 0; q < kProducts; ++q) {
            const signed char sign = kStrassen[q].c[s];
            if (sign == 0) continue;
            negative |= ((sign < 0) != terms.term[t].negative ? 1U : 0U) << count;
            from[count++] = products + q * block + i * p_.block_cols;
          }
          kernel_.sum(width, count, from.data(), negative, to);
        }
      }
    }
  }

  W* left(std::size_t product, std::size_t row) const {
    return lhs_ + (product * p_.rows + row) * panel_;
  }
  W* right(std::size_t product, std::size_t col) const {
    return rhs_ + (product * p_.cols + col) * panel_;
  }

  const Layout p_;
  const GemmKernel<W>& kernel_;
  const ConstMatrix<W> a_, b_;
  const Matrix<W> c_;
  ThreadPool& pool_;
  std::size_t panel_;  // words of a panel per row or column
  W* lhs_;
  W* rhs_;
};

}  // namespace

template <RingWord W>
int strassen_levels(const GemmKernel<W>& kernel, std::size_t rows, std::size_t depth,
                    std::size_t cols) noexcept {
  if (kernel.least_part == 0) return 0;
  const std::size_t least = std::min({rows, depth, cols});
  int levels = 0;
  while (levels < kMostLevels && (least >> (levels + 1)) >= kernel.least_part) ++levels;
  return levels;
}

template <RingWord W>
void strassen(std::span<const GemmPair<W>> pairs, const Matrix<W>& c, bool accumulate, int levels,
              ThreadPool& pool, const GemmKernel<W>& kernel) {
  if (!accumulate)
    for (std::size_t i = 0; i < c.rows; ++i) std::memset(c.data + i * c.ld, 0, c.cols * sizeof(W));
  for (const GemmPair<W>& pair : pairs) {
    const std::size_t depth = pair.a.cols;
    const Layout p = layout_of(c.rows, depth, c.cols, levels, pool.threads(), kernel);
    for (std::size_t i = 0; i < c.rows; i += p.parts * p.rows)
      for (std::size_t j = 0; j < c.cols; j += p.parts * p.cols)
        for (std::size_t k = 0; k < depth; k += p.parts * p.depth) {
          const std::size_t m = inside(i, p.parts * p.rows, c.rows);
          const std::size_t n = inside(j, p.parts * p.cols, c.cols);
          const std::size_t d = inside(k, p.parts * p.depth, depth);
          Region<W>(p, kernel, {pair.a.data + i * pair.a.ld + k, m, d, pair.a.ld},
                    {pair.b.data + k * pair.b.ld + j, d, n, pair.b.ld},
                    {c.data + i * c.ld + j, m, n, c.ld}, pool)
              .run(levels, kWhole, kWhole, kWhole);
        }
  }
}

template <RingWord W>
Scratch strassen_scratch(std::size_t rows, std::size_t depth, std::size_t cols, int levels,
                         int threads, const GemmKernel<W>& kernel) {
  const Layout p = layout_of(rows, depth, cols, levels, threads, kernel);
  const auto shares = static_cast<std::size_t>(threads);
  Scratch s;
  s.need(Slot::panels, (panel_words(p, kernel) + shares - 1) / shares, sizeof(W));
  s.need(Slot::sums, sum_words(p, kernel), sizeof(W));
  return s;
}

#define MPCC_INSTANTIATE(W)                                                             \
  template int strassen_levels<W>(const GemmKernel<W>&, std::size_t, std::size_t,       \
                                  std::size_t) noexcept;                                \
  template void strassen<W>(std::span<const GemmPair<W>>, const Matrix<W>&, bool, int,  \
                            ThreadPool&, const GemmKernel<W>&);                         \
  template Scratch strassen_scratch<W>(std::size_t, std::size_t, std::size_t, int, int, \
                                       const GemmKernel<W>&);
MPCC_INSTANTIATE(std::uint32_t)
MPCC_INSTANTIATE(std::uint64_t)
#undef MPCC_INSTANTIATE

}  // namespace mpcc::ring::internal
