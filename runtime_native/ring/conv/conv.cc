#include "ring/conv/conv.h"

#include <algorithm>
#include <cstring>
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

// How an ordinary convolution is cut: tasks are (image, group, pixels, output channels).
struct Cut {
  std::size_t pixels, channels;            // per task
  std::size_t pixel_tasks, channel_tasks;  // per image and group
};

template <RingWord W>
Cut cut(const Conv2dShape& s, std::size_t out_pixels, const GemmKernel<W>& kernel, int threads) {
  // A block of patches (kc rows) should stay in L2 beside a block of weights.
  Cut c{std::min(round_up(std::max<std::size_t>(64, 4 * kernel.nr), kernel.nr),
                 round_up(out_pixels, kernel.nr)),
        round_up(s.group_out(), kernel.mr), 0, 0};
  const auto wanted = static_cast<std::size_t>(threads == 1 ? 1 : 3 * threads);
  const auto count = [&] {
    c.pixel_tasks = (out_pixels + c.pixels - 1) / c.pixels;
    c.channel_tasks = (s.group_out() + c.channels - 1) / c.channels;
    return s.batch * s.groups * c.pixel_tasks * c.channel_tasks;
  };
  while (count() < wanted) {
    if (c.pixels > 4 * kernel.nr)
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

template <RingWord W>
void by_products(const Conv2dShape& s, std::span<const ConvPair<W>> pairs, std::span<W> y,
                 bool accumulate, ThreadPool& pool, const GemmKernel<W>& kernel) {
  const std::size_t out_pixels = s.out_height() * s.out_width();
  const std::size_t depth = s.group_in() * s.taps();
  const std::size_t image = s.in_height * s.in_width;
  const Cut c = cut(s, out_pixels, kernel, pool.threads());
  const std::size_t mr = kernel.mr;
  const std::size_t nr = kernel.nr;

  const auto task = [&](std::size_t t) {
    const std::size_t o0 = t % c.channel_tasks * c.channels;
    t /= c.channel_tasks;
    const std::size_t n0 = t % c.pixel_tasks * c.pixels;
    t /= c.pixel_tasks;
    const std::size_t group = t % s.groups;
    const std::size_t b = t / s.groups;
    const std::size_t o1 = std::min(o0 + c.channels, s.group_out());
    const std::size_t n1 = std::min(n0 + c.pixels, out_pixels);
    const std::size_t columns = round_up(n1 - n0, nr);
    const std::size_t ld = pitch_of<W>(columns);
    W* out = y.data() + (b * s.out_channels + group * s.group_out()) * out_pixels;

    bool add = accumulate;
    for (const ConvPair<W>& pair : pairs) {
      const W* x = pair.x.data() + (b * s.in_channels + group * s.group_in()) * image;
      for (std::size_t k0 = 0; k0 < depth; k0 += kernel.kc) {
        const std::size_t k = std::min(kernel.kc, depth - k0);
        W* patches = internal::scratch<W>(internal::Slot::patches, checked_mul(k, ld));
        internal::fill_patches(s, x, k0, k0 + k, n0, n1, patches, ld);
        const W* rhs = patches;
        std::size_t panel_step = nr;  // words from one right panel to the next
        std::size_t pitch = ld;
        if (!kernel.strided_rhs) {
          panel_step = round_up(k, kernel.kq) * nr;
          pitch = nr;
          W* packed =
              internal::scratch<W>(internal::Slot::rhs, checked_mul(columns / nr, panel_step));
          for (std::size_t j = 0; j < columns; j += nr)
            kernel.pack_rhs(patches + j, ld, k, std::min(nr, n1 - n0 - j),
                            packed + j / nr * panel_step);
          rhs = packed;
        }
        const internal::Panels<W>& weights = pair.w->panels(group);
        const auto tile = [&](std::size_t o, std::size_t j) {
          kernel.tile(k, weights.panel(k0, o / mr), rhs + j / nr * panel_step, pitch,
                      out + o * out_pixels + n0 + j, out_pixels, std::min(mr, o1 - o),
                      std::min(nr, n1 - n0 - j), add);
        };
        // The larger operand is walked in the outer loop, once.
        if (o1 - o0 > columns) {
          for (std::size_t o = o0; o < o1; o += mr)
            for (std::size_t j = 0; j < columns; j += nr) tile(o, j);
        } else {
          for (std::size_t j = 0; j < columns; j += nr)
            for (std::size_t o = o0; o < o1; o += mr) tile(o, j);
        }
        add = true;
      }
    }
  };
  pool.parallel_for(s.batch * s.groups * c.pixel_tasks * c.channel_tasks, 1,
                    [&](std::size_t begin, std::size_t end) {
                      for (std::size_t t = begin; t < end; ++t) task(t);
                    });
}

// How a depthwise convolution is cut: bands of output rows, each with its padded input rows.
struct Bands {
  std::size_t row_words;  // per padded input row
  std::size_t reach;      // input rows under a kernel
  std::size_t band;       // output rows per task
  std::size_t terms;      // products per output word

  std::size_t in_rows(const Conv2dShape& s, std::size_t rows) const {
    return (rows - 1) * s.stride_height + reach;
  }
};

template <RingWord W>
Bands bands_of(const Conv2dShape& s, std::size_t pairs) {
  Bands b{};
  b.row_words = checked_mul(s.stride_width, internal::phase_pitch(s), "convolution");
  b.reach = (s.kernel_height - 1) * s.dilation_height + 1;
  // Output rows per task: the padded input rows of all pairs in about 64 KiB.
  const std::size_t fitting =
      (std::size_t{1} << 16) / sizeof(W) / checked_mul(b.row_words, pairs, "convolution");
  b.band = std::clamp<std::size_t>(
      fitting > b.reach ? (fitting - b.reach) / s.stride_height + 1 : 1, 1, s.out_height());
  b.terms = checked_mul(pairs, s.taps(), "convolution");
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
    : groups_(s.groups),
      group_in_(0),
      group_out_(0),
      kernel_height_(s.kernel_height),
      kernel_width_(s.kernel_width),
      depthwise_(false),
      kernel_(kernel != nullptr ? kernel : &gemm_kernel<W>()) {
  s.validate();
  group_in_ = s.group_in();
  group_out_ = s.group_out();
  depthwise_ = s.depthwise();
  require(w.size() == s.weight_words(), "E-ring-shape",
          "convolution weights have the wrong number of words");
  if (depthwise_) {
    taps_ = SecretBuffer::uninitialized(w.size_bytes());
    std::memcpy(taps_.data(), w.data(), w.size_bytes());
    return;
  }
  const std::size_t depth = group_in_ * s.taps();
  panels_.reserve(groups_);
  for (std::size_t g = 0; g < groups_; ++g) {
    internal::Panels<W> p(*kernel_, kernel_->mr, group_out_, depth);
    const W* rows = w.data() + g * group_out_ * depth;
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
std::size_t PackedConvWeights<W>::bytes_for(const Conv2dShape& s, const GemmKernel<W>* kernel) {
  if (s.depthwise()) return checked_mul(s.weight_words(), sizeof(W));
  const GemmKernel<W>& k = kernel != nullptr ? *kernel : gemm_kernel<W>();
  return checked_mul(
      s.groups, internal::Panels<W>::bytes_for(k, k.mr, s.group_out(), s.group_in() * s.taps()));
}

template <RingWord W>
internal::Scratch conv2d_scratch(const Conv2dShape& s, std::size_t pairs, int threads,
                                 const GemmKernel<W>* wanted) {
  internal::Scratch scratch;
  if (pairs == 0) return scratch;
  if (s.depthwise()) {
    const Bands bands = bands_of<W>(s, pairs);
    const std::size_t rows =
        checked_mul(bands.in_rows(s, bands.band), bands.row_words, "convolution");
    scratch.need(internal::Slot::patches, checked_mul(pairs, rows, "convolution"), sizeof(W));
    // Beside the weights, a pointer per term.
    scratch.need(internal::Slot::weights, bands.terms, sizeof(W) + sizeof(const W*));
    return scratch;
  }
  const GemmKernel<W>& kernel = wanted != nullptr ? *wanted : gemm_kernel<W>();
  const std::size_t pixels = s.out_height() * s.out_width();
  const std::size_t depth = s.group_in() * s.taps();
  const std::size_t columns =
      round_up(std::min(cut(s, pixels, kernel, threads).pixels, pixels), kernel.nr);
  const std::size_t k = std::min(kernel.kc, depth);
  scratch.need(internal::Slot::patches, checked_mul(k, pitch_of<W>(columns)), sizeof(W));
  if (!kernel.strided_rhs)
    scratch.need(internal::Slot::rhs, checked_mul(columns, round_up(k, kernel.kq)), sizeof(W));
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
    require(p.w != nullptr && p.w->fits(s), "E-ring-shape",
            "packed weights belong to another convolution");
    require(&p.w->kernel() == &pairs[0].w->kernel(), "E-ring-kernel",
            "convolution weights are packed for different variants");
  }
  const GemmKernel<W>& kernel = pairs[0].w->kernel();
  if (s.depthwise())
    by_rows(s, pairs, y, accumulate, pool, kernel);
  else
    by_products(s, pairs, y, accumulate, pool, kernel);
}

#define MPCC_INSTANTIATE(W)                                                                     \
  template class PackedConvWeights<W>;                                                          \
  template internal::Scratch conv2d_scratch<W>(const Conv2dShape&, std::size_t, int,            \
                                               const GemmKernel<W>*);                           \
  template void conv2d<W>(const Conv2dShape&, std::span<const ConvPair<W>>, std::span<W>, bool, \
                          ThreadPool&);
MPCC_INSTANTIATE(std::uint32_t)
MPCC_INSTANTIATE(std::uint64_t)
#undef MPCC_INSTANTIATE

}  // namespace mpcc::ring
