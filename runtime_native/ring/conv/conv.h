// Two-dimensional convolution (cross-correlation, as ONNX Conv) over Z_2^32 and Z_2^64.
//
//   y[b, o, p, q] (+)= sum over pairs (x, w), i, u, v of
//                      w[o, i, u, v] * x[b, g(o) Ig + i, p sh + u dh - top, q sw + v dw - left]
//
// x: [batch, in_channels, in_height, in_width], w: [out_channels, in_channels / groups, kh, kw],
// y: [batch, out_channels, out_height, out_width], all dense and row-major; x is zero outside.
// Ig = in_channels / groups, g(o) = o / (out_channels / groups). All arithmetic mod 2^l.
//
// Ordinary convolutions run as matrix products whose right operand, the patches of x, is produced
// block by block in cache (implicit im2col). With one input channel per group (depthwise) the taps
// are applied to rows directly. Neither has a branch or an address that depends on a value.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "base/secret_buffer.h"
#include "base/thread_pool.h"
#include "ring/gemm/gemm.h"

namespace mpcc::ring {

struct Conv2dShape {
  std::size_t batch = 1;
  std::size_t in_channels = 1, in_height = 1, in_width = 1;
  std::size_t out_channels = 1;
  std::size_t kernel_height = 1, kernel_width = 1;
  std::size_t stride_height = 1, stride_width = 1;
  std::size_t dilation_height = 1, dilation_width = 1;
  std::size_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::size_t groups = 1;

  // Throws Error("E-ring-shape") unless every size is in [1, 2^31), the groups divide both channel
  // counts, the padded input covers the dilated kernel, and all element counts, among them those of
  // the padded inputs of a channel of `pairs` convolutions at once, are far from overflow.
  void validate(std::size_t pairs = 1) const;

  std::size_t out_height() const noexcept;
  std::size_t out_width() const noexcept;
  std::size_t group_in() const noexcept { return in_channels / groups; }
  std::size_t group_out() const noexcept { return out_channels / groups; }
  std::size_t taps() const noexcept { return kernel_height * kernel_width; }
  std::size_t input_words() const noexcept { return batch * in_channels * in_height * in_width; }
  std::size_t weight_words() const noexcept { return out_channels * group_in() * taps(); }
  std::size_t output_words() const noexcept {
    return batch * out_channels * out_height() * out_width();
  }
  bool depthwise() const noexcept { return group_in() == 1 && groups > 1; }
};

// Weights packed once and used by many convolutions. Depends on the channels, groups and kernel of
// the shape only, not on batch, image size, strides or pads. Immutable; may be shared by threads.
//
// Weights whose convolutions are added up can be packed as one operand, one after the other along
// the depth of the product: sum_i conv(x_i, w_i) is the convolution of the x_i as one image with
// more channels. An output is then written once, which counts where the sums are short.
template <RingWord W>
class PackedConvWeights {
 public:
  // w: shape.weight_words() words, OIHW. Throws Error("E-ring-shape").
  PackedConvWeights(const Conv2dShape& shape, std::span<const W> w,
                    const GemmKernel<W>* kernel = nullptr);

  // Several of them as one operand; more than one only if can_join().
  PackedConvWeights(const Conv2dShape& shape, std::span<const std::span<const W>> w,
                    const GemmKernel<W>* kernel = nullptr);

  // Whether these weights belong to a convolution of this shape, and how many are packed together.
  bool fits(const Conv2dShape& shape) const noexcept;
  std::size_t joined() const noexcept { return joined_; }
  const GemmKernel<W>& kernel() const noexcept { return *kernel_; }
  std::size_t bytes() const noexcept;
  // bytes() of packed weights of this shape, `joined` of them together.
  static std::size_t bytes_for(const Conv2dShape& shape, const GemmKernel<W>* kernel = nullptr,
                               std::size_t joined = 1);

  const internal::Panels<W>& panels(std::size_t group) const { return panels_[group]; }
  const W* taps(std::size_t out_channel) const;  // depthwise: kernel_height * kernel_width words

 private:
  // w: rows of `depth` words, one per output channel.
  void pack_panels(std::size_t depth, const W* w);

  std::size_t groups_, group_in_, group_out_, kernel_height_, kernel_width_, joined_;
  bool depthwise_;
  const GemmKernel<W>* kernel_;
  std::vector<internal::Panels<W>> panels_;  // one per group, unless depthwise
  SecretBuffer taps_;                        // depthwise: OIHW as given
};

// One convolution of the sum.
template <RingWord W>
struct ConvPair {
  std::span<const W> x;  // shape.input_words() words
  const PackedConvWeights<W>* w = nullptr;
};

// y (+)= sum over pairs of conv(x, w). y: shape.output_words() words, overlapping no operand.
// `accumulate` adds to what y holds, otherwise y is overwritten. All pairs have one shape; their
// weights were packed for one variant. Throws Error("E-ring-shape") or Error("E-ring-kernel").
template <RingWord W>
void conv2d(const Conv2dShape& shape, std::span<const ConvPair<W>> pairs, std::span<W> y,
            bool accumulate, ThreadPool& pool);

// The same sum for weights that are packed together: x[i] belongs to the i-th of them.
template <RingWord W>
void conv2d(const Conv2dShape& shape, std::span<const std::span<const W>> x,
            const PackedConvWeights<W>& w, std::span<W> y, bool accumulate, ThreadPool& pool);

// Whether `count` weights can be packed together, and it is worth it: the convolution has one
// group, and the whole sum fits one block of the kernel's depth.
template <RingWord W>
bool can_join(const Conv2dShape& shape, std::size_t count, const GemmKernel<W>* kernel = nullptr);

// Working memory per thread of conv2d() on `pairs` pairs, or on as many weights that are packed
// together; shape.validate(pairs) must have passed.
template <RingWord W>
internal::Scratch conv2d_scratch(const Conv2dShape& shape, std::size_t pairs, int threads,
                                 const GemmKernel<W>* kernel = nullptr, bool joined = false);
// Words that conv2d() touches or multiplies on `pairs` pairs, about; saturates.
std::uint64_t conv2d_work(const Conv2dShape& shape, std::size_t pairs);

// One term of the definition: y (+)= conv(x, w) in plain loops, w as OIHW.
template <RingWord W>
void conv2d_reference(const Conv2dShape& shape, std::span<const W> x, std::span<const W> w,
                      std::span<W> y, bool accumulate);

}  // namespace mpcc::ring
