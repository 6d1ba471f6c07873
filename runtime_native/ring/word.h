// Words of the rings Z_2^32 and Z_2^64: unsigned integers whose arithmetic wraps.
#pragma once

#include <concepts>
#include <cstdint>

namespace mpcc::ring {

template <class W>
concept RingWord = std::same_as<W, std::uint32_t> || std::same_as<W, std::uint64_t>;

}  // namespace mpcc::ring
