// Types of party-level values, as mpcc/ir/types.py declares and prints them.
//
//   ring64<2x3>@P0      row-major u64 words            8 bytes per element
//   ring32<>@P1         row-major u32 words            4 bytes per element
//   bits<513x4>@P2      bit-sliced lanes x planes      see bits_bytes()
//   clear<1x10xf32>@client   plaintext binary32        4 bytes per element
#pragma once

#include <compare>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kernels/limits.h"

namespace mpcc {

// Text of a file for errors and reports: cut to 200 characters, plain ASCII.
std::string printable(std::string_view text);

enum class Place : std::uint8_t { P0, P1, P2, client, model };
inline constexpr std::size_t kPlaces = 5;

std::string_view place_name(Place place) noexcept;
// Throws Error("E-graph-place").
Place parse_place(std::string_view name);
inline constexpr std::size_t index_of(Place place) noexcept {
  return static_cast<std::size_t>(place);
}

// Lanes of one bit-sliced block, and bytes of one of its planes: a cache line.
inline constexpr std::size_t kBlockLanes = 512;
inline constexpr std::size_t kPlaneBytes = kBlockLanes / 8;

// Bytes of a bit-sliced buffer: full blocks of 64-byte planes, then a last block of 1..512 lanes
// whose planes have ceil(lanes / 8) bytes.
constexpr std::size_t bits_bytes(std::size_t lanes, std::size_t planes) noexcept {
  if (lanes == 0) return 0;
  const std::size_t full = (lanes - 1) / kBlockLanes;
  const std::size_t rest = lanes - full * kBlockLanes;
  return planes * (full * kPlaneBytes + (rest + 7) / 8);
}

struct ValueType {
  enum class Kind : std::uint8_t { ring64, ring32, bits, clear };

  Kind kind = Kind::ring64;
  Place place = Place::P0;
  std::vector<std::int64_t> shape;  // empty for bits
  std::size_t lanes = 0;            // elements of a ring or clear tensor, lanes of bits
  std::size_t planes = 0;           // 0 unless bits

  bool is_ring() const noexcept { return kind == Kind::ring64 || kind == Kind::ring32; }
  // Bytes per element; 0 for bits.
  std::size_t word() const noexcept;
  std::size_t bytes() const noexcept;
  // Bytes of `count` lanes that begin at a multiple of 512 and, unless they reach the end of the
  // value, are a multiple of 512.
  std::size_t bytes_of(std::size_t count) const noexcept;
  std::string str() const;

  friend bool operator==(const ValueType&, const ValueType&) = default;

  // Throw Error("E-graph-type") beyond the limits of limits.h.
  static ValueType ring(std::vector<std::int64_t> shape, std::int64_t bits, Place place);
  static ValueType bit_planes(std::int64_t lanes, std::int64_t planes, Place place);
  static ValueType clear(std::vector<std::int64_t> shape, Place place);
  // The printed form back. Throws Error("E-graph-type").
  static ValueType parse(std::string_view text);
};

}  // namespace mpcc
