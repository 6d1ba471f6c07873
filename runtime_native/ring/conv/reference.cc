#include "ring/conv/conv.h"

namespace mpcc::ring {

template <RingWord W>
void conv2d_reference(const Conv2dShape& s, std::span<const W> x, std::span<const W> w,
                      std::span<W> y, bool accumulate) {
  const std::size_t oh = s.out_height();
  const std::size_t ow = s.out_width();
  for (std::size_t b = 0; b < s.batch; ++b)
    for (std::size_t o = 0; o < s.out_channels; ++o)
      for (std::size_t p = 0; p < oh; ++p)
        for (std::size_t q = 0; q < ow; ++q) {
          W& out = y[((b * s.out_channels + o) * oh + p) * ow + q];
          W sum = accumulate ? out : W{0};
          for (std::size_t i = 0; i < s.group_in(); ++i)
            for (std::size_t u = 0; u < s.kernel_height; ++u)
              for (std::size_t v = 0; v < s.kernel_width; ++v) {
                const std::size_t r = p * s.stride_height + u * s.dilation_height;
                const std::size_t c = q * s.stride_width + v * s.dilation_width;
                if (r < s.pad_top || r - s.pad_top >= s.in_height) continue;
                if (c < s.pad_left || c - s.pad_left >= s.in_width) continue;
                const std::size_t channel = o / s.group_out() * s.group_in() + i;
                const std::size_t at =
                    ((b * s.in_channels + channel) * s.in_height + r - s.pad_top) * s.in_width + c -
                    s.pad_left;
                const std::size_t tap =
                    ((o * s.group_in() + i) * s.kernel_height + u) * s.kernel_width + v;
                sum += w[tap] * x[at];
              }
          out = sum;
        }
}

template void conv2d_reference(const Conv2dShape&, std::span<const std::uint32_t>,
                               std::span<const std::uint32_t>, std::span<std::uint32_t>, bool);
template void conv2d_reference(const Conv2dShape&, std::span<const std::uint64_t>,
                               std::span<const std::uint64_t>, std::span<std::uint64_t>, bool);

}  // namespace mpcc::ring
