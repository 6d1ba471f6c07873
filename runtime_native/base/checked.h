// Bounded arithmetic and slicing for sizes that come from a file or a peer. Every helper throws
// Error("E-bounds-...") instead of wrapping; none of them is meant for ring values, which wrap.
#pragma once

#include <concepts>
#include <cstddef>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include "base/error.h"

namespace mpcc {

// Throws Error(code, message, where) unless ok. The strings are views, so that a check in a hot
// path allocates nothing when it holds.
inline void require(bool ok, std::string_view code, std::string_view message,
                    std::string_view where = {}) {
  if (!ok) [[unlikely]]
    throw Error(std::string(code), std::string(message), std::string(where));
}

template <std::integral T>
[[nodiscard]] T checked_add(T a, T b, std::string_view where = {}) {
  T r{};
  if (__builtin_add_overflow(a, b, &r)) [[unlikely]]
    throw Error("E-bounds-overflow", std::to_string(a) + " + " + std::to_string(b) + " overflows",
                std::string(where));
  return r;
}

template <std::integral T>
[[nodiscard]] T checked_sub(T a, T b, std::string_view where = {}) {
  T r{};
  if (__builtin_sub_overflow(a, b, &r)) [[unlikely]]
    throw Error("E-bounds-overflow", std::to_string(a) + " - " + std::to_string(b) + " overflows",
                std::string(where));
  return r;
}

template <std::integral T>
[[nodiscard]] T checked_mul(T a, T b, std::string_view where = {}) {
  T r{};
  if (__builtin_mul_overflow(a, b, &r)) [[unlikely]]
    throw Error("E-bounds-overflow", std::to_string(a) + " * " + std::to_string(b) + " overflows",
                std::string(where));
  return r;
}

// Product of a shape's dimensions; 1 for an empty shape. Refuses negative dimensions.
template <std::integral T>
[[nodiscard]] std::size_t checked_product(std::span<const T> dims, std::string_view where = {}) {
  std::size_t n = 1;
  for (T d : dims) {
    if constexpr (std::is_signed_v<T>)
      require(d >= 0, "E-bounds-negative", "negative dimension in a shape", where);
    n = checked_mul(n, static_cast<std::size_t>(d), where);
  }
  return n;
}

// Value-preserving integer conversion.
template <std::integral To, std::integral From>
[[nodiscard]] To narrow(From v, std::string_view where = {}) {
  if (!std::in_range<To>(v)) [[unlikely]]
    throw Error("E-bounds-narrow", std::to_string(v) + " does not fit the integer type",
                std::string(where));
  return static_cast<To>(v);
}

// span.subspan(offset, count) with both ends checked.
template <class T>
[[nodiscard]] std::span<T> checked_slice(std::span<T> s, std::size_t offset, std::size_t count,
                                         std::string_view where = {}) {
  if (offset > s.size() || count > s.size() - offset) [[unlikely]]
    throw Error("E-bounds-slice",
                "slice [" + std::to_string(offset) + ", +" + std::to_string(count) +
                    ") of a buffer of " + std::to_string(s.size()),
                std::string(where));
  return s.subspan(offset, count);
}

}  // namespace mpcc
