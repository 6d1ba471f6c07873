#include "kernels/type.h"

#include <array>
#include <charconv>

#include "base/error.h"

namespace mpcc {
namespace {

constexpr std::array<std::string_view, kPlaces> kPlaceNames = {"P0", "P1", "P2", "client", "model"};

[[noreturn]] void fail(const std::string& what) { throw Error("E-graph-type", what); }

// Empty tensors are held to the same limits, so that strides never overflow.
std::size_t count_elements(const std::vector<std::int64_t>& shape) {
  if (shape.size() > kMaxRank) fail("a tensor of rank " + std::to_string(shape.size()));
  bool empty = false;
  std::uint64_t n = 1;
  for (const std::int64_t d : shape) {
    if (d < 0) fail("negative dimension " + std::to_string(d));
    if (d == 0) {
      empty = true;
      continue;
    }
    if (static_cast<std::uint64_t>(d) > kMaxElements / n) fail("a tensor of too many elements");
    n *= static_cast<std::uint64_t>(d);
  }
  return empty ? 0 : n;
}

std::string dims(const std::vector<std::int64_t>& shape) {
  std::string text;
  for (const std::int64_t d : shape) {
    if (!text.empty()) text += 'x';
    text += std::to_string(d);
  }
  return text;
}

bool take(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) return false;
  text.remove_prefix(prefix.size());
  return true;
}

ValueType sized(ValueType t) {
  if (t.bytes() > kMaxBufferBytes) fail("a value of " + std::to_string(t.bytes()) + " bytes");
  return t;
}

std::int64_t take_number(std::string_view& text) {
  std::int64_t n = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), n);
  if (error != std::errc() || n < 0) fail("a size is expected at '" + printable(text) + "'");
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return n;
}

}  // namespace

std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, 200)) out += (c >= 0x20 && c < 0x7f) ? c : '?';
  return out;
}

std::string_view place_name(Place place) noexcept { return kPlaceNames[index_of(place)]; }

Place parse_place(std::string_view name) {
  for (std::size_t i = 0; i < kPlaces; ++i)
    if (kPlaceNames[i] == name) return static_cast<Place>(i);
  throw Error("E-graph-place", "unknown place '" + printable(name.substr(0, 40)) + "'");
}

std::size_t ValueType::word() const noexcept {
  switch (kind) {
    case Kind::ring64:
      return 8;
    case Kind::ring32:
    case Kind::clear:
      return 4;
    case Kind::bits:
      break;
  }
  return 0;
}

std::size_t ValueType::bytes() const noexcept { return bytes_of(lanes); }

std::size_t ValueType::bytes_of(std::size_t count) const noexcept {
  return kind == Kind::bits ? bits_bytes(count, planes) : count * word();
}

std::string ValueType::str() const {
  std::string text;
  switch (kind) {
    case Kind::ring64:
      text = "ring64<" + dims(shape);
      break;
    case Kind::ring32:
      text = "ring32<" + dims(shape);
      break;
    case Kind::bits:
      text = "bits<" + std::to_string(lanes) + "x" + std::to_string(planes);
      break;
    case Kind::clear:
      text = "clear<" + dims(shape) + (shape.empty() ? "f32" : "xf32");
      break;
  }
  return text + ">@" + std::string(place_name(place));
}

ValueType ValueType::ring(std::vector<std::int64_t> shape, std::int64_t bits, Place place) {
  if (bits != 32 && bits != 64) fail("a ring of " + std::to_string(bits) + " bits");
  ValueType t;
  t.kind = bits == 64 ? Kind::ring64 : Kind::ring32;
  t.place = place;
  t.lanes = count_elements(shape);
  t.shape = std::move(shape);
  return sized(std::move(t));
}

ValueType ValueType::bit_planes(std::int64_t lanes, std::int64_t planes, Place place) {
  if (lanes < 0 || static_cast<std::uint64_t>(lanes) > kMaxElements || planes < 1 ||
      static_cast<std::uint64_t>(planes) > kMaxPlanes)
    fail(std::to_string(lanes) + " lanes of " + std::to_string(planes) + " bits");
  ValueType t;
  t.kind = Kind::bits;
  t.place = place;
  t.lanes = static_cast<std::size_t>(lanes);
  t.planes = static_cast<std::size_t>(planes);
  return sized(std::move(t));
}

ValueType ValueType::clear(std::vector<std::int64_t> shape, Place place) {
  ValueType t;
  t.kind = Kind::clear;
  t.place = place;
  t.lanes = count_elements(shape);
  t.shape = std::move(shape);
  return sized(std::move(t));
}

ValueType ValueType::parse(std::string_view text) {
  if (text.size() > 256) fail("a type of " + std::to_string(text.size()) + " characters");
  const std::string whole(text);
  const auto at = text.rfind('@');
  if (at == std::string_view::npos) fail("no place in '" + printable(whole) + "'");
  const Place place = parse_place(text.substr(at + 1));
  text = text.substr(0, at);
  std::int64_t ring = 0;
  bool bits = false;
  if (take(text, "ring64<"))
    ring = 64;
  else if (take(text, "ring32<"))
    ring = 32;
  else if (take(text, "bits<"))
    bits = true;
  else if (!take(text, "clear<"))
    fail("unknown type '" + printable(whole) + "'");
  if (!text.ends_with('>')) fail("no '>' in '" + printable(whole) + "'");
  text.remove_suffix(1);
  if (bits) {
    const std::int64_t lanes = take_number(text);
    if (!take(text, "x")) fail("bits<lanes x planes> expected in '" + printable(whole) + "'");
    const std::int64_t planes = take_number(text);
    if (!text.empty()) fail("bad type '" + printable(whole) + "'");
    ValueType t = bit_planes(lanes, planes, place);
    if (t.str() != whole) fail("'" + printable(whole) + "' is not in its printed form");
    return t;
  }
  if (ring == 0) {
    if (!text.ends_with("f32")) fail("clear values are f32, not '" + printable(whole) + "'");
    text.remove_suffix(3);
    if (!text.empty()) {
      if (!text.ends_with('x')) fail("bad type '" + printable(whole) + "'");
      text.remove_suffix(1);
      if (text.empty()) fail("bad type '" + printable(whole) + "'");
    }
  }
  std::vector<std::int64_t> shape;
  while (!text.empty()) {
    shape.push_back(take_number(text));
    if (shape.size() > kMaxRank) fail("rank of '" + printable(whole) + "'");
    if (text.empty()) break;
    if (!take(text, "x") || text.empty()) fail("bad type '" + printable(whole) + "'");
  }
  ValueType t = ring != 0 ? ValueType::ring(std::move(shape), ring, place)
                          : ValueType::clear(std::move(shape), place);
  if (t.str() != whole) fail("'" + printable(whole) + "' is not in its printed form");
  return t;
}

}  // namespace mpcc
