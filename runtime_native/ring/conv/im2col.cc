#include "ring/conv/im2col.h"

#include <algorithm>
#include <cstring>

namespace mpcc::ring::internal {
namespace {

// Output columns [first, end) whose input column q * stride + offset - pad lies inside the image.
struct Inside {
  std::size_t first, end;
};

Inside inside(std::size_t out, std::size_t in, std::size_t stride, std::size_t offset,
              std::size_t pad) {
  const std::size_t first = offset >= pad ? 0 : (pad - offset + stride - 1) / stride;
  // q * stride + offset <= in - 1 + pad
  const std::size_t limit = in - 1 + pad;
  const std::size_t end = offset > limit ? 0 : (limit - offset) / stride + 1;
  return {std::min(first, out), std::min(std::max(first, end), out)};
}

template <RingWord W>
void copy_strided(const W* from, std::size_t stride, std::size_t n, W* to) {
  if (stride == 1) {
    std::memcpy(to, from, n * sizeof(W));
    return;
  }
  if (stride == 2) {  // by far the most frequent, and as a constant it is vectorised
    for (std::size_t i = 0; i < n; ++i) to[i] = from[2 * i];
    return;
  }
  for (std::size_t i = 0; i < n; ++i) to[i] = from[i * stride];
}

}  // namespace

template <RingWord W>
void fill_patches(const Conv2dShape& s, const W* x, std::size_t k0, std::size_t k1, std::size_t n0,
                  std::size_t n1, W* out, std::size_t ld) {
  const std::size_t ow = s.out_width();
  const std::size_t plane = s.in_height * s.in_width;
  // Rows of x that follow each other in y as they do in memory: one copy per patch row.
  const bool contiguous = s.stride_height == 1 && s.stride_width == 1 && s.kernel_width == 1 &&
                          s.pad_top == 0 && s.pad_left == 0 && s.pad_bottom == 0 &&
                          s.pad_right == 0;
  std::size_t v = k0 % s.kernel_width;
  std::size_t u = k0 / s.kernel_width % s.kernel_height;
  std::size_t channel = k0 / s.taps();
  for (std::size_t k = k0; k < k1; ++k, out += ld) {
    const W* image = x + channel * plane;
    if (contiguous) {
      std::memcpy(out, image + u * s.dilation_height * s.in_width + n0, (n1 - n0) * sizeof(W));
    } else {
      const std::size_t across = v * s.dilation_width;
      const Inside valid = inside(ow, s.in_width, s.stride_width, across, s.pad_left);
      std::size_t p = n0 / ow;
      std::size_t q = n0 % ow;
      for (std::size_t n = n0; n < n1; ++p, q = 0) {
        const std::size_t count = std::min(ow - q, n1 - n);
        W* to = out + (n - n0);
        n += count;
        const std::size_t r = p * s.stride_height + u * s.dilation_height;
        const std::size_t begin = std::clamp(valid.first, q, q + count);
        const std::size_t end = std::clamp(valid.end, begin, q + count);
        if (r < s.pad_top || r - s.pad_top >= s.in_height || begin == end) {
          std::fill_n(to, count, W{0});
          continue;
        }
        std::fill_n(to, begin - q, W{0});
        copy_strided(
            image + (r - s.pad_top) * s.in_width + begin * s.stride_width + across - s.pad_left,
            s.stride_width, end - begin, to + (begin - q));
        std::fill_n(to + (end - q), q + count - end, W{0});
      }
    }
    if (++v == s.kernel_width) {
      v = 0;
      if (++u == s.kernel_height) {
        u = 0;
        ++channel;
      }
    }
  }
}

template <RingWord W>
void fill_padded(const Conv2dShape& s, const W* channel, std::size_t r0, std::size_t rows, W* out) {
  const std::size_t pitch = s.in_width + s.pad_left + s.pad_right;
  for (std::size_t r = r0; r < r0 + rows; ++r, out += pitch) {
    if (r < s.pad_top || r - s.pad_top >= s.in_height) {
      std::fill_n(out, pitch, W{0});
      continue;
    }
    std::fill_n(out, s.pad_left, W{0});
    std::memcpy(out + s.pad_left, channel + (r - s.pad_top) * s.in_width, s.in_width * sizeof(W));
    std::fill_n(out + s.pad_left + s.in_width, s.pad_right, W{0});
  }
}

std::size_t phase_pitch(const Conv2dShape& s) noexcept {
  return s.out_width() + (s.kernel_width - 1) * s.dilation_width / s.stride_width;
}

template <RingWord W>
void fill_phases(const Conv2dShape& s, const W* channel, std::size_t r0, std::size_t rows, W* out) {
  const std::size_t pitch = phase_pitch(s);
  std::fill_n(out, rows * s.stride_width * pitch, W{0});
  const std::size_t first = std::max(r0, s.pad_top);
  const std::size_t end = std::min(r0 + rows, s.pad_top + s.in_height);
  for (std::size_t phase = 0; phase < s.stride_width; ++phase) {
    const Inside valid = inside(pitch, s.in_width, s.stride_width, phase, s.pad_left);
    if (valid.first == valid.end) continue;
    const W* from = channel + valid.first * s.stride_width + phase - s.pad_left;
    W* to = out + phase * pitch + valid.first;
    for (std::size_t row = first; row < end; ++row)
      copy_strided(from + (row - s.pad_top) * s.in_width, s.stride_width, valid.end - valid.first,
                   to + (row - r0) * s.stride_width * pitch);
  }
}

#define MPCC_INSTANTIATE(W)                                                                 \
  template void fill_patches<W>(const Conv2dShape&, const W*, std::size_t, std::size_t,     \
                                std::size_t, std::size_t, W*, std::size_t);                 \
  template void fill_padded<W>(const Conv2dShape&, const W*, std::size_t, std::size_t, W*); \
  template void fill_phases<W>(const Conv2dShape&, const W*, std::size_t, std::size_t, W*);
MPCC_INSTANTIATE(std::uint32_t)
MPCC_INSTANTIATE(std::uint64_t)
#undef MPCC_INSTANTIATE

}  // namespace mpcc::ring::internal
