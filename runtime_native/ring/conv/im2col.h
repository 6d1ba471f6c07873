// Internal: pieces of x laid out as the convolution kernels want them.
#pragma once

#include <cstddef>

#include "ring/conv/conv.h"

namespace mpcc::ring::internal {

// A block of the patch matrix of one image and group: rows are (channel, u, v) in [k0, k1), columns
// are output pixels p * out_width + q in [n0, n1).
//   out[(k - k0) * ld + (n - n0)] = x[channel, p sh + u dh - top, q sw + v dw - left], 0 outside
// x points at the group's first channel.
template <RingWord W>
void fill_patches(const Conv2dShape& s, const W* x, std::size_t k0, std::size_t k1, std::size_t n0,
                  std::size_t n1, W* out, std::size_t ld);

// Rows [r0, r0 + rows) of one zero-padded channel, row 0 being the first padding row:
//   out[r * (left + in_width + right) + j] = padded[r0 + r, j]
template <RingWord W>
void fill_padded(const Conv2dShape& s, const W* channel, std::size_t r0, std::size_t rows, W* out);

// The same rows with the
// columns dealt out by their residue modulo the stride, so that a tap reads consecutive words:
//   out[(r * sw + phase) * pitch + j] = padded[r0 + r, j * sw + phase],   pitch = phase_pitch(s)
template <RingWord W>
void fill_phases(const Conv2dShape& s, const W* channel, std::size_t r0, std::size_t rows, W* out);

// Words per phase of a padded row: what the last output column's last tap reaches.
std::size_t phase_pitch(const Conv2dShape& s) noexcept;

}  // namespace mpcc::ring::internal
