#include "ring/conv/conv.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <limits>
#include <string>

#include "base/checked.h"
#include "base/error.h"
#include "ring/conv/im2col.h"
#include "ring/gemm/kernel.h"
#include "ring/scratch.h"

namespace mpcc::ring {
namespace {

constexpr std::size_t round_up(std::size_t n, std::size_t to) { return (n + to - 1) / to * to; }

std::size_t out_size(std::size_t in, std::size_t before, std::size_t after, std::size_t kernel,
                     std::size_t dilation, std::size_t stride) {
  return (in + before + after - ((kernel - 1) * dilation + 1)) / stride + 1;
}

// How an ordinary convolution is cut: columns are output pixels, of one image or of whole images.
struct Cut {
  std::size_t images, pixels, channels;                 // per task; images > 1: all their pixels
  std::size_t image_tasks, pixel_tasks, channel_tasks;  // per group

  std::size_t tasks(const Conv2dShape& s) const {
    return s.groups * image_tasks * pixel_tasks * channel_tasks;
  }
  std::size_t columns() const { return images * pixels; }
};

template <RingWord W>
Cut cut(const Conv2dShape& s, std::size_t out_pixels, const GemmKernel<W>& kernel, int threads) {
  // A block of patches (kc rows) should stay in L2 beside a block of weights.
  const std::size_t target = std::max<std::size_t>(1024 / sizeof(W), 4 * kernel.nr);
  const std::size_t pieces = (out_pixels + target - 1) / target;
  Cut c{};
  c.images = pieces == 1 ? std::min(s.batch, target / out_pixels) : 1;
  c.pixels = std::min(out_pixels, round_up((out_pixels + pieces - 1) / pieces, kernel.nr));
  c.channels = round_up(s.group_out(), kernel.mr);
  const auto wanted = static_cast<std::size_t>(threads == 1 ? 1 : 3 * threads);
  const auto count = [&] {
    c.image_tasks = (s.batch + c.images - 1) / c.images;
    c.pixel_tasks = (out_pixels + c.pixels - 1) / c.pixels;
    c.channel_tasks = (s.group_out() + c.channels - 1) / c.channels;
    return c.tasks(s);
  };
  while (count() < wanted) {
    if (c.images > 1)
      c.images = (c.images + 1) / 2;
    else if (c.pixels > 4 * kernel.nr)
      c.pixels = round_up(c.pixels / 2, kernel.nr);
    else if (c.channels > 4 * kernel.mr)
      c.channels = round_up(c.channels / 2, kernel.mr);
    else
      break;
  }
  return c;
}

// An odd multiple of a cache line as the pitch spreads a column over all sets of L1.
template <RingWord W>
std::size_t pitch_of(std::size_t columns) {
  return round_up(columns, 64 / sizeof(W)) | (64 / sizeof(W));
}

std::size_t reach(const Conv2dShape& s) { return (s.kernel_height - 1) * s.dilation_height + 1; }

// Where a task takes its patches from: the images themselves when nothing is padded; padded copies
// of the rows that it needs; or, when those are much larger than the patches (a small kernel in a
// sea of padding), the patches one by one.
enum class Source { image, padded, patches };

struct Plan {
  Cut cut;
  Source source;
  std::size_t pitch;          // words per row of the source
  std::size_t scratch_words;  // of the padded copies or patches of a task, at most
};

template <RingWord W>
Plan plan(const Conv2dShape& s, const GemmKernel<W>& kernel, int threads) {
  const std::size_t pixels = s.out_height() * s.out_width();
  const std::size_t k = std::min(kernel.kc, s.group_in() * s.taps());
  Plan p{cut(s, pixels, kernel, threads), Source::image, s.in_width, 0};
  if (s.pad_top == 0 && s.pad_left == 0 && s.pad_bottom == 0 && s.pad_right == 0) return p;

  const std::size_t out_rows =
      p.cut.images > 1 || p.cut.pixels == pixels
          ? s.out_height()
          : std::min(s.out_height(), (p.cut.pixels + s.out_width() - 2) / s.out_width() + 1);
  const std::size_t channels = std::min(s.group_in(), (k + s.taps() - 2) / s.taps() + 1);
  p.pitch = s.in_width + s.pad_left + s.pad_right;
  p.source = Source::padded;
  p.scratch_words = 1;
  bool fits = true;
  for (const std::size_t n :
       {p.cut.images, (out_rows - 1) * s.stride_height + reach(s), p.pitch, channels})
    fits = fits && !__builtin_mul_overflow(p.scratch_words, n, &p.scratch_words);
  const std::size_t patches = checked_mul(k, pitch_of<W>(p.cut.columns()), "convolution");
  if (fits && p.scratch_words / 2 <= patches) return p;

  p.source = Source::patches;
  p.pitch = pitch_of<W>(p.cut.columns());
  p.scratch_words = patches;
  return p;
}

// The part of the product that one task computes.
struct Part {
  std::size_t group;
  std::size_t image0, image1, pixel0, pixel1;  // more than one image: all pixels
  std::size_t channel0, channel1;              // of the group's output

  std::size_t pixels() const { return pixel1 - pixel0; }
  std::size_t columns() const { return (image1 - image0) * pixels(); }
};

Part part(const Conv2dShape& s, const Cut& c, std::size_t t) {
  Part p{};
  p.channel0 = t % c.channel_tasks * c.channels;
  t /= c.channel_tasks;
  p.pixel0 = t % c.pixel_tasks * c.pixels;
  t /= c.pixel_tasks;
  p.image0 = t % c.image_tasks * c.images;
  p.group = t / c.image_tasks;
  p.channel1 = std::min(p.channel0 + c.channels, s.group_out());
  p.pixel1 = std::min(p.pixel0 + c.pixels, s.out_height() * s.out_width());
  p.image1 = std::min(p.image0 + c.images, s.batch);
  return p;
}

// The shape of the convolution that `count` joined ones are.
Conv2dShape joined_shape(Conv2dShape s, std::size_t count) {
  s.in_channels = checked_mul(s.in_channels, count, "convolution");
  return s;
}

// A product of the sum. With several x, each has as many of the shape's channels.
template <RingWord W>
struct Term {
  std::vector<const W*> x;
  const PackedConvWeights<W>* w;
};

// One task's right operand: blocks of patches, packed into panels in cache. Channels are those of
// `inputs` images, one after the other.
template <RingWord W>
class Patches {
 public:
  Patches(const Conv2dShape& s, std::size_t inputs, const Plan& plan, const Part& part,
          const GemmKernel<W>& kernel)
      : s_(s), input_channels_(s.in_channels / inputs), plan_(plan), part_(part), kernel_(kernel) {
    const std::size_t most = round_up(plan.cut.columns(), kernel.nr);
    row_ = internal::scratch<std::size_t>(internal::Slot::weights, kernel.kc + most);
    column_ = row_ + kernel.kc;
    first_row_ = part.pixel0 / s.out_width() * s.stride_height;
    const std::size_t last = (part.pixel1 - 1) / s.out_width() * s.stride_height;
    rows_ = last - first_row_ + reach(s);
    if (plan.source != Source::patches) fill_columns();
  }

  // Depths [k0, k1) of the patches of x as panels of kernel.panel_depth(k1 - k0) rows.
  const W* pack(const std::vector<const W*>& x, std::size_t k0, std::size_t k1) {
    const std::size_t k = k1 - k0;
    const std::size_t panel = kernel_.panel_depth(k) * kernel_.nr;
    const std::size_t columns = part_.columns();
    const std::size_t count = (columns + kernel_.nr - 1) / kernel_.nr;
    W* out = internal::scratch<W>(internal::Slot::rhs, checked_mul(count, panel, "convolution"));
    if (plan_.source == Source::patches) {
      const W* patches = gather_patches(x, k0, k1);
      for (std::size_t j = 0; j < count; ++j)
        kernel_.pack_rhs(patches + j * kernel_.nr, plan_.pitch, k,
                         std::min(kernel_.nr, columns - j * kernel_.nr), out + j * panel);
      return out;
    }
    const W* from = source(x, k0, k1);
    for (std::size_t j = 0; j < count; ++j)
      kernel_.gather_rhs(from, row_, column_ + j * kernel_.nr, k, out + j * panel);
    return out;
  }

 private:
  // column_[j]: where the first tap of a column stands in the first channel.
  void fill_columns() {
    const bool copied = plan_.source == Source::padded;
    const std::size_t image = copied ? rows_ * plan_.pitch : input_channels_ * image_words();
    std::size_t* to = column_;
    for (std::size_t b = part_.image0; b < part_.image1; ++b) {
      std::size_t p = part_.pixel0 / s_.out_width();
      std::size_t q = part_.pixel0 % s_.out_width();
      const std::size_t base = copied ? (b - part_.image0) * image : b * image;
      for (std::size_t n = part_.pixel0; n < part_.pixel1; ++p, q = 0) {
        const std::size_t row = p * s_.stride_height - (copied ? first_row_ : 0);
        for (; q < s_.out_width() && n < part_.pixel1; ++q, ++n)
          *to++ = base + row * plan_.pitch + q * s_.stride_width;
      }
    }
    // The rest of the last panel is computed and not used.
    const std::size_t padded = round_up(part_.columns(), kernel_.nr);
    std::fill(to, column_ + padded, to[-1]);
  }

  std::size_t image_words() const { return s_.in_height * s_.in_width; }

  // Sets row_ for depths [k0, k1), and returns what row_ and column_ refer to.
  const W* source(const std::vector<const W*>& x, std::size_t k0, std::size_t k1) {
    const bool copied = plan_.source == Source::padded;
    const std::size_t channel0 = k0 / s_.taps();
    const std::size_t channel1 = (k1 - 1) / s_.taps() + 1;
    const std::size_t images = part_.image1 - part_.image0;
    const std::size_t channel = images * rows_ * plan_.pitch;  // of the copies
    // Of several images the one that lies lowest, so that no distance is negative.
    const W* base = *std::min_element(x.begin(), x.end(), std::less<>());
    std::size_t at = channel0 * s_.taps();
    for (std::size_t c = channel0; c < channel1; ++c) {
      const std::size_t first = copied ? (c - channel0) * channel : distance(base, input(x, c));
      for (std::size_t u = 0; u < s_.kernel_height; ++u)
        for (std::size_t v = 0; v < s_.kernel_width; ++v, ++at)
          if (at >= k0 && at < k1)
            row_[at - k0] = first + u * s_.dilation_height * plan_.pitch + v * s_.dilation_width;
    }
    if (!copied) return base;
    W* padded = internal::scratch<W>(internal::Slot::patches, plan_.scratch_words);
    W* to = padded;
    for (std::size_t c = channel0; c < channel1; ++c)
      for (std::size_t b = part_.image0; b < part_.image1; ++b, to += rows_ * plan_.pitch)
        internal::fill_padded(s_, input(x, c) + b * input_channels_ * image_words(), first_row_,
                              rows_, to);
    return padded;
  }

  // Channel c of the group, in the first image of the batch.
  const W* input(const std::vector<const W*>& x, std::size_t c) const {
    c += part_.group * s_.group_in();
    return x[c / input_channels_] + c % input_channels_ * image_words();
  }

  static std::size_t distance(const W* from, const W* to) {
    // Of different arrays perhaps, hence not a difference of pointers.
    return (reinterpret_cast<std::uintptr_t>(to) - reinterpret_cast<std::uintptr_t>(from)) /
           sizeof(W);
  }

  const W* gather_patches(const std::vector<const W*>& x, std::size_t k0, std::size_t k1) {
    W* patches = internal::scratch<W>(internal::Slot::patches, plan_.scratch_words);
    // Of one image after the other, as far as the depths reach into it.
    const std::size_t channels = std::min(input_channels_, s_.group_in());
    const std::size_t depth = channels * s_.taps();
    for (std::size_t from = k0; from < k1;) {
      const std::size_t begin = from / depth * depth;
      const std::size_t to = std::min(k1, begin + depth);
      for (std::size_t b = part_.image0; b < part_.image1; ++b)
        internal::fill_patches(
            s_, input(x, begin / s_.taps()) + b * input_channels_ * image_words(), from - begin,
            to - begin, part_.pixel0, part_.pixel1,
            patches + (from - k0) * plan_.pitch + (b - part_.image0) * part_.pixels(), plan_.pitch);
      from = to;
    }
    return patches;
  }

  const Conv2dShape& s_;
  const std::size_t input_channels_;
  const Plan& plan_;
  const Part& part_;
  const GemmKernel<W>& kernel_;
  std::size_t* row_;
  std::size_t* column_;
  std::size_t first_row_, rows_;  // of the padded image: the band under the part's pixels
};

// A tile whose columns belong to several images is computed aside and dealt out.
template <RingWord W>
void deal_out(const W* tile, std::size_t pitch, std::size_t rows, std::size_t cols,
              std::size_t pixels, std::size_t image_words, std::size_t pixel, W* out, bool add) {
  for (std::size_t j = 0; j < cols; ++j, ++pixel) {
    W* to = out + pixel / pixels * image_words + pixel % pixels;
    for (std::size_t i = 0; i < rows; ++i) {
      W& word = to[i * pixels];
      word = static_cast<W>(tile[i * pitch + j] + (add ? word : W{0}));
    }
  }
}

template <RingWord W>
void by_products(const Conv2dShape& s, std::span<const Term<W>> terms, std::span<W> y,
                 bool accumulate, ThreadPool& pool, const GemmKernel<W>& kernel) {
  const std::size_t pixels = s.out_height() * s.out_width();
  const std::size_t depth = s.group_in() * s.taps();
  const Plan how = plan(s, kernel, pool.threads());
  const std::size_t mr = kernel.mr;
  const std::size_t nr = kernel.nr;
  const std::size_t image_words = s.out_channels * pixels;

  const auto task = [&](std::size_t t) {
    const Part p = part(s, how.cut, t);
    const std::size_t columns = p.columns();
    const std::size_t outputs = p.channel1 - p.channel0;
    W* out = y.data() + p.image0 * image_words + p.group * s.group_out() * pixels + p.pixel0;
    W* aside = internal::scratch<W>(internal::Slot::lhs, mr * nr);
    Patches<W> patches(s, terms[0].x.size(), how, p, kernel);

    bool add = accumulate;
    for (const Term<W>& term : terms)
      for (std::size_t k0 = 0; k0 < depth; k0 += kernel.kc) {
        const std::size_t k = std::min(kernel.kc, depth - k0);
        const std::size_t panel = kernel.panel_depth(k);
        const W* rhs = patches.pack(term.x, k0, k0 + k);
        const W* lhs = term.w->panels(p.group).panel(k0, 0);
        // Panels follow each other, and their rows and columns are multiples of mr and nr.
        const auto tile = [&](std::size_t o, std::size_t j) {
          const std::size_t rows = std::min(mr, p.channel1 - o);
          const std::size_t cols = std::min(nr, columns - j);
          const W* left = lhs + o * panel;
          const W* right = rhs + j * panel;
          W* to = out + o * pixels;
          if (p.image1 - p.image0 == 1) {
            kernel.tile(k, left, right, to + j, pixels, rows, cols, add);
          } else if (j % pixels + cols <= pixels) {
            kernel.tile(k, left, right, to + j / pixels * image_words + j % pixels, pixels, rows,
                        cols, add);
          } else {
            kernel.tile(k, left, right, aside, nr, rows, cols, false);
            deal_out(aside, nr, rows, cols, pixels, image_words, j, to, add);
          }
        };
        // The larger operand is walked in the outer loop, once.
        if (outputs > columns) {
          for (std::size_t o = p.channel0; o < p.channel1; o += mr)
            for (std::size_t j = 0; j < columns; j += nr) tile(o, j);
        } else {
          for (std::size_t j = 0; j < columns; j += nr)
            for (std::size_t o = p.channel0; o < p.channel1; o += mr) tile(o, j);
        }
        add = true;
      }
  };
  pool.parallel_for(how.cut.tasks(s), 1, [&](std::size_t begin, std::size_t end) {
    for (std::size_t t = begin; t < end; ++t) task(t);
  });
}

// How a depthwise convolution is cut: bands of output rows, each with its padded input rows.
struct Bands {
  std::size_t row_words;  // per padded input row
  std::size_t reach;      // input rows under a kernel
  std::size_t band;       // output rows per task
  std::size_t terms;      // products per output word
  // Whether a task's rows are computed as one long row, with the padding between them, and copied
  // out of it: without strides, padded rows follow each other as output rows do.
  bool joined;

  std::size_t in_rows(const Conv2dShape& s, std::size_t rows) const {
    return (rows - 1) * s.stride_height + reach;
  }
};

template <RingWord W>
Bands bands_of(const Conv2dShape& s, std::size_t pairs) {
  Bands b{};
  b.row_words = checked_mul(s.stride_width, internal::phase_pitch(s), "convolution");
  b.reach = reach(s);
  // Output rows per task: the padded input rows of all pairs in about 64 KiB.
  const std::size_t fitting =
      (std::size_t{1} << 16) / sizeof(W) / checked_mul(b.row_words, pairs, "convolution");
  b.band = std::clamp<std::size_t>(
      fitting > b.reach ? (fitting - b.reach) / s.stride_height + 1 : 1, 1, s.out_height());
  b.terms = checked_mul(pairs, s.taps(), "convolution");
  constexpr std::size_t kShortRow = 512 / sizeof(W);
  b.joined = s.stride_height == 1 && s.stride_width == 1 && s.out_width() < kShortRow &&
             b.row_words < 2 * s.out_width();
  return b;
}

// Depthwise: an output row is a linear combination of rows of the padded channel, one per tap.
template <RingWord W>
void by_rows(const Conv2dShape& s, std::span<const ConvPair<W>> pairs, std::span<W> y,
             bool accumulate, ThreadPool& pool, const GemmKernel<W>& kernel) {
  const std::size_t oh = s.out_height();
  const std::size_t ow = s.out_width();
  const std::size_t pitch = internal::phase_pitch(s);
  const Bands cut = bands_of<W>(s, pairs.size());
  const std::size_t row_words = cut.row_words;
  const std::size_t band = cut.band;
  const std::size_t bands = (oh + band - 1) / band;
  const std::size_t terms = cut.terms;

  const auto task = [&](std::size_t t, std::vector<const W*>& rows) {
    const std::size_t p0 = t % bands * band;
    const std::size_t o = t / bands % s.out_channels;
    const std::size_t b = t / bands / s.out_channels;
    const std::size_t p1 = std::min(p0 + band, oh);
    const std::size_t in_rows = cut.in_rows(s, p1 - p0);
    const std::size_t rows_words = checked_mul(in_rows, row_words, "convolution");
    W* padded = internal::scratch<W>(internal::Slot::patches,
                                     checked_mul(pairs.size(), rows_words, "convolution"));
    W* weights = internal::scratch<W>(internal::Slot::weights, terms);

    std::size_t term = 0;
    for (const ConvPair<W>& pair : pairs) {
      const std::size_t channel = b * s.in_channels + o / s.group_out();
      internal::fill_phases(s, pair.x.data() + channel * s.in_height * s.in_width,
                            p0 * s.stride_height, in_rows, padded);
      std::memcpy(weights + term, pair.w->taps(o), s.taps() * sizeof(W));
      for (std::size_t u = 0; u < s.kernel_height; ++u)
        for (std::size_t v = 0; v < s.kernel_width; ++v) {
          const std::size_t across = v * s.dilation_width;
          rows[term++] = padded + u * s.dilation_height * row_words +
                         across % s.stride_width * pitch + across / s.stride_width;
        }
      padded += rows_words;
    }
    W* out = y.data() + ((b * s.out_channels + o) * oh + p0) * ow;
    if (cut.joined) {
      const std::size_t words = (p1 - p0 - 1) * row_words + ow;
      W* joined = internal::scratch<W>(internal::Slot::rhs, words);
      kernel.combine(words, terms, rows.data(), weights, joined, false);
      for (std::size_t p = p0; p < p1; ++p, out += ow, joined += row_words)
        for (std::size_t q = 0; q < ow; ++q)
          out[q] = static_cast<W>(joined[q] + (accumulate ? out[q] : W{0}));
      return;
    }
    for (std::size_t p = p0; p < p1; ++p, out += ow) {
      kernel.combine(ow, terms, rows.data(), weights, out, accumulate);
      for (const W*& row : rows) row += s.stride_height * row_words;
    }
  };
  const std::size_t tasks = s.batch * s.out_channels * bands;
  pool.parallel_for(tasks, pool.grain_for(tasks, 1), [&](std::size_t begin, std::size_t end) {
    std::vector<const W*> rows(terms);
    for (std::size_t t = begin; t < end; ++t) task(t, rows);
  });
}

}  // namespace

void Conv2dShape::validate(std::size_t pairs) const {
  for (const std::size_t n :
       {batch, in_channels, in_height, in_width, out_channels, kernel_height, kernel_width,
        stride_height, stride_width, dilation_height, dilation_width, groups})
    require(n >= 1 && n < (std::size_t{1} << 31), "E-ring-shape",
            "convolution sizes must be between 1 and 2^31 - 1");
  for (const std::size_t n : {pad_top, pad_left, pad_bottom, pad_right})
    require(n < (std::size_t{1} << 31), "E-ring-shape", "convolution pads must be below 2^31");
  require(in_channels % groups == 0 && out_channels % groups == 0, "E-ring-shape",
          "groups must divide the channels");
  require((kernel_height - 1) * dilation_height + 1 <= in_height + pad_top + pad_bottom &&
              (kernel_width - 1) * dilation_width + 1 <= in_width + pad_left + pad_right,
          "E-ring-shape", "the dilated kernel is larger than the padded input");
  // Eight bytes a word, and room for rounding up to panels.
  constexpr std::size_t kMost = std::size_t{1} << 58;
  const auto bounded = [](std::initializer_list<std::size_t> dims) {
    std::size_t n = 1;
    for (std::size_t d : dims) n = checked_mul(n, d, "convolution");
    require(n <= kMost, "E-ring-shape", "a convolution operand is too large");
  };
  bounded({batch, in_channels, in_height, in_width});
  bounded({out_channels, group_in(), kernel_height, kernel_width});
  bounded({batch, out_channels, out_height(), out_width()});
  // Scratch is laid out by padded rows, whose width is rounded up to the stride.
  bounded({std::max<std::size_t>(pairs, 1), in_height + pad_top + pad_bottom,
           in_width + pad_left + pad_right + stride_width});
  bounded({std::max<std::size_t>(pairs, 1), kernel_height, kernel_width});
}

std::size_t Conv2dShape::out_height() const noexcept {
  return out_size(in_height, pad_top, pad_bottom, kernel_height, dilation_height, stride_height);
}

std::size_t Conv2dShape::out_width() const noexcept {
  return out_size(in_width, pad_left, pad_right, kernel_width, dilation_width, stride_width);
}

template <RingWord W>
PackedConvWeights<W>::PackedConvWeights(const Conv2dShape& s, std::span<const W> w,
                                        const GemmKernel<W>* kernel)
    : PackedConvWeights(s, std::span<const std::span<const W>>(&w, 1), kernel) {}

template <RingWord W>
PackedConvWeights<W>::PackedConvWeights(const Conv2dShape& s, std::span<const std::span<const W>> w,
                                        const GemmKernel<W>* kernel)
    : groups_(s.groups),
      group_in_(0),
      group_out_(0),
      kernel_height_(s.kernel_height),
      kernel_width_(s.kernel_width),
      joined_(w.size()),
      depthwise_(false),
      kernel_(kernel != nullptr ? kernel : &gemm_kernel<W>()) {
  s.validate();
  group_in_ = s.group_in();
  group_out_ = s.group_out();
  depthwise_ = s.depthwise();
  require(joined_ == 1 || (joined_ > 1 && can_join(s, joined_, kernel_)), "E-ring-shape",
          "convolution weights that cannot be packed together");
  for (const std::span<const W>& one : w)
    require(one.size() == s.weight_words(), "E-ring-shape",
            "convolution weights have the wrong number of words");
  if (depthwise_) {
    taps_ = SecretBuffer::uninitialized(w[0].size_bytes());
    std::memcpy(taps_.data(), w[0].data(), w[0].size_bytes());
    return;
  }
  if (joined_ > 1) {
    const std::size_t one = group_in_ * s.taps();
    SecretBuffer rows = SecretBuffer::uninitialized(joined_ * w[0].size_bytes());
    W* to = rows.template as<W>().data();
    for (std::size_t o = 0; o < group_out_; ++o)
      for (const std::span<const W>& from : w) to = std::copy_n(from.data() + o * one, one, to);
    pack_panels(joined_ * one, rows.template as<W>().data());
  } else {
    pack_panels(group_in_ * s.taps(), w[0].data());
  }
}

template <RingWord W>
void PackedConvWeights<W>::pack_panels(std::size_t depth, const W* w) {
  panels_.reserve(groups_);
  for (std::size_t g = 0; g < groups_; ++g) {
    internal::Panels<W> p(*kernel_, kernel_->mr, group_out_, depth);
    const W* rows = w + g * group_out_ * depth;
    for (std::size_t k0 = 0; k0 < depth; k0 += kernel_->kc)
      for (std::size_t o = 0; o < group_out_; o += kernel_->mr)
        kernel_->pack_lhs(rows + o * depth + k0, depth, std::min(kernel_->mr, group_out_ - o),
                          std::min(kernel_->kc, depth - k0), p.panel(k0, o / kernel_->mr));
    panels_.push_back(std::move(p));
  }
}

template <RingWord W>
bool PackedConvWeights<W>::fits(const Conv2dShape& s) const noexcept {
  return s.groups == groups_ && s.in_channels == groups_ * group_in_ &&
         s.out_channels == groups_ * group_out_ && s.kernel_height == kernel_height_ &&
         s.kernel_width == kernel_width_;
}

template <RingWord W>
std::size_t PackedConvWeights<W>::bytes() const noexcept {
  std::size_t n = taps_.size();
  for (const auto& p : panels_) n += p.bytes();
  return n;
}

template <RingWord W>
std::size_t PackedConvWeights<W>::bytes_for(const Conv2dShape& s, const GemmKernel<W>* kernel,
                                            std::size_t joined) {
  if (s.depthwise()) return checked_mul(s.weight_words(), sizeof(W));
  const GemmKernel<W>& k = kernel != nullptr ? *kernel : gemm_kernel<W>();
  const std::size_t depth = checked_mul(joined, s.group_in() * s.taps());
  return checked_mul(s.groups, internal::Panels<W>::bytes_for(k, k.mr, s.group_out(), depth));
}

template <RingWord W>
internal::Scratch conv2d_scratch(const Conv2dShape& s, std::size_t pairs, int threads,
                                 const GemmKernel<W>* wanted, bool joined) {
  internal::Scratch scratch;
  if (pairs == 0) return scratch;
  if (joined) return conv2d_scratch(joined_shape(s, pairs), 1, threads, wanted);
  if (s.depthwise()) {
    const Bands bands = bands_of<W>(s, pairs);
    const std::size_t rows =
        checked_mul(bands.in_rows(s, bands.band), bands.row_words, "convolution");
    scratch.need(internal::Slot::patches, checked_mul(pairs, rows, "convolution"), sizeof(W));
    if (bands.joined)
      scratch.need(internal::Slot::rhs, checked_mul(bands.band, bands.row_words, "convolution"),
                   sizeof(W));
    // Beside the weights, a pointer per term.
    scratch.need(internal::Slot::weights, bands.terms, sizeof(W) + sizeof(const W*));
    return scratch;
  }
  const GemmKernel<W>& kernel = wanted != nullptr ? *wanted : gemm_kernel<W>();
  const Plan how = plan(s, kernel, threads);
  const std::size_t columns = round_up(how.cut.columns(), kernel.nr);
  const std::size_t panel = kernel.panel_depth(std::min(kernel.kc, s.group_in() * s.taps()));
  scratch.need(internal::Slot::patches, how.scratch_words, sizeof(W));
  scratch.need(internal::Slot::rhs, checked_mul(columns, panel, "convolution"), sizeof(W));
  scratch.need(internal::Slot::lhs, kernel.mr * kernel.nr, sizeof(W));
  scratch.need(internal::Slot::weights, kernel.kc + columns, sizeof(std::size_t));
  return scratch;
}

std::uint64_t conv2d_work(const Conv2dShape& s, std::size_t pairs) {
  if (pairs == 0) return 0;
  const auto times = [](std::initializer_list<std::uint64_t> factors) {
    std::uint64_t n = 1;
    for (const std::uint64_t f : factors)
      if (__builtin_mul_overflow(n, f, &n)) return std::numeric_limits<std::uint64_t>::max();
    return n;
  };
  const std::uint64_t products = times({pairs, s.output_words(), s.group_in(), s.taps()});
  if (!s.depthwise()) return products;
  // Every band fills its padded rows; narrow bands fill the rows under the kernel again and again.
  const Bands cut = bands_of<std::uint64_t>(s, pairs);
  const std::uint64_t filled =
      times({pairs, s.batch, s.out_channels, (s.out_height() + cut.band - 1) / cut.band,
             cut.in_rows(s, cut.band), cut.row_words});
  std::uint64_t sum = 0;
  if (__builtin_add_overflow(products, filled, &sum))
    return std::numeric_limits<std::uint64_t>::max();
  return sum;
}

template <RingWord W>
const W* PackedConvWeights<W>::taps(std::size_t out_channel) const {
  return reinterpret_cast<const W*>(taps_.data()) + out_channel * kernel_height_ * kernel_width_;
}

template <RingWord W>
void conv2d(const Conv2dShape& s, std::span<const ConvPair<W>> pairs, std::span<W> y,
            bool accumulate, ThreadPool& pool) {
  s.validate(pairs.size());
  require(y.size() == s.output_words(), "E-ring-shape",
          "convolution output has the wrong number of words");
  if (pairs.empty()) {
    if (!accumulate) std::fill(y.begin(), y.end(), W{0});
    return;
  }
  for (const ConvPair<W>& p : pairs) {
    require(p.x.size() == s.input_words(), "E-ring-shape",
            "convolution input has the wrong number of words");
    require(p.w != nullptr && p.w->fits(s) && p.w->joined() == 1, "E-ring-shape",
            "packed weights belong to another convolution");
    require(&p.w->kernel() == &pairs[0].w->kernel(), "E-ring-kernel",
            "convolution weights are packed for different variants");
  }
  const GemmKernel<W>& kernel = pairs[0].w->kernel();
  if (s.depthwise()) return by_rows(s, pairs, y, accumulate, pool, kernel);
  std::vector<Term<W>> terms;
  for (const ConvPair<W>& p : pairs) terms.push_back({{p.x.data()}, p.w});
  by_products<W>(s, terms, y, accumulate, pool, kernel);
}

template <RingWord W>
void conv2d(const Conv2dShape& s, std::span<const std::span<const W>> x,
            const PackedConvWeights<W>& w, std::span<W> y, bool accumulate, ThreadPool& pool) {
  require(w.fits(s) && w.joined() == x.size(), "E-ring-shape",
          "packed weights belong to another convolution");
  if (x.size() == 1) {
    const ConvPair<W> pair{x[0], &w};
    return conv2d<W>(s, std::span(&pair, 1), y, accumulate, pool);
  }
  s.validate(x.size());
  require(y.size() == s.output_words(), "E-ring-shape",
          "convolution output has the wrong number of words");
  Term<W> term{{}, &w};
  for (const std::span<const W>& one : x) {
    require(one.size() == s.input_words(), "E-ring-shape",
            "convolution input has the wrong number of words");
    term.x.push_back(one.data());
  }
  by_products<W>(joined_shape(s, x.size()), std::span<const Term<W>>(&term, 1), y, accumulate, pool,
                 w.kernel());
}

template <RingWord W>
bool can_join(const Conv2dShape& s, std::size_t count, const GemmKernel<W>* wanted) {
  if (s.groups != 1 || count == 0) return false;
  const GemmKernel<W>& kernel = wanted != nullptr ? *wanted : gemm_kernel<W>();
  std::size_t depth = 0;
  return !__builtin_mul_overflow(s.group_in() * s.taps(), count, &depth) && depth <= kernel.kc;
}

#define MPCC_INSTANTIATE(W)                                                                     \
  template class PackedConvWeights<W>;                                                          \
  template internal::Scratch conv2d_scratch<W>(const Conv2dShape&, std::size_t, int,            \
                                               const GemmKernel<W>*, bool);                     \
  template bool can_join<W>(const Conv2dShape&, std::size_t, const GemmKernel<W>*);             \
  template void conv2d<W>(const Conv2dShape&, std::span<const std::span<const W>>,              \
                          const PackedConvWeights<W>&, std::span<W>, bool, ThreadPool&);        \
  template void conv2d<W>(const Conv2dShape&, std::span<const ConvPair<W>>, std::span<W>, bool, \
                          ThreadPool&);
MPCC_INSTANTIATE(std::uint32_t)
MPCC_INSTANTIATE(std::uint64_t)
#undef MPCC_INSTANTIATE

}  // namespace mpcc::ring
