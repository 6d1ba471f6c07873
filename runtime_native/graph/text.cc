#include "graph/text.h"

#include <array>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <limits>
#include <nlohmann/json.hpp>

#include "base/error.h"

namespace mpcc::graph {
namespace {

using nlohmann::json;

[[noreturn]] void bad(const std::string& what) { throw Error("E-graph", what); }

void limit(std::size_t n, std::size_t most, const char* what) {
  if (n > most) throw Error("E-graph-limit", std::string("an attribute ") + what);
}

json parse_json(const std::string& text) {
  json value = json::parse(text, nullptr, false);
  if (value.is_discarded()) bad("an attribute is not JSON");
  return value;
}

bool is_int64(const json& value) {
  return value.is_number_integer() &&
         !(value.is_number_unsigned() &&
           value.get<std::uint64_t>() > std::uint64_t{std::numeric_limits<std::int64_t>::max()});
}

// Python's json.dumps with compact separators, ASCII only.
void write_json(const json& value, std::size_t depth, std::string& out) {
  limit(depth, kMaxNesting, "is nested too deeply");
  switch (value.type()) {
    case json::value_t::array: {
      limit(value.size(), kMaxList, "list is too long");
      out += '[';
      const char* between = "";
      for (const json& item : value) {
        out += between;
        between = ",";
        write_json(item, depth + 1, out);
      }
      out += ']';
      break;
    }
    case json::value_t::number_integer:
    case json::value_t::number_unsigned:
      if (!is_int64(value)) bad("an attribute holds an integer of more than 64 bits");
      out += std::to_string(value.get<std::int64_t>());
      break;
    case json::value_t::number_float:
      out += float_repr(value.get<double>());
      break;
    case json::value_t::boolean:
    case json::value_t::string:
      out += value.dump(-1, ' ', true);
      break;
    default:
      bad("an attribute holds an object or null");
  }
}

Nested to_nested(const json& value) {
  Nested out;
  if (value.is_array()) {
    for (const json& item : value) out.items.push_back(to_nested(item));
  } else if (is_int64(value)) {
    out.leaf = true;
    out.value = value.get<std::int64_t>();
  } else {
    bad("a nested attribute holds something else than integers");
  }
  return out;
}

}  // namespace

bool is_utf8(std::string_view text) noexcept {
  const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
  for (std::size_t i = 0; i < text.size();) {
    const unsigned char first = byte(i);
    if (first < 0x80) {
      ++i;
      continue;
    }
    const std::size_t length = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || text.size() - i < length) return false;
    for (std::size_t j = 1; j < length; ++j)
      if ((byte(i + j) & 0xc0) != 0x80) return false;
    const unsigned char second = byte(i + 1);
    if ((first == 0xe0 && second < 0xa0) || (first == 0xed && second > 0x9f) ||
        (first == 0xf0 && second < 0x90) || (first == 0xf4 && second > 0x8f))
      return false;
    i += length;
  }
  return true;
}

std::string float_repr(double value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  std::array<char, 40> buffer{};
  const auto written = std::to_chars(buffer.data(), buffer.data() + buffer.size(), value,
                                     std::chars_format::scientific);
  // [-]d[.ddd]e[+-]xx
  std::string text(buffer.data(), written.ptr);
  const std::size_t e = text.find('e');
  const char* from = text.data() + e + 1;
  int exponent = 0;
  std::from_chars(*from == '+' ? from + 1 : from, text.data() + text.size(), exponent);
  if (exponent < -4 || exponent >= 16) return text;
  std::string out;
  if (text[0] == '-') out = "-";
  std::string digits;
  for (std::size_t i = out.size(); i < e; ++i)
    if (text[i] != '.') digits += text[i];
  if (exponent < 0) {
    out += "0.";
    out.append(static_cast<std::size_t>(-exponent - 1), '0');
    return out + digits;
  }
  const auto whole = static_cast<std::size_t>(exponent) + 1;
  if (digits.size() <= whole) digits.append(whole + 1 - digits.size(), '0');
  return out + digits.substr(0, whole) + "." + digits.substr(whole);
}

double parse_float(const std::string& text) {
  double value = 0;
  const char* end = text.data() + text.size();
  const auto parsed = std::from_chars(text.data(), end, value);
  if (parsed.ec != std::errc() || parsed.ptr != end) bad("an attribute is not a number");
  if (float_repr(value) != text) bad("a number is not in its shortest form");
  return value;
}

Nested parse_nested(const std::string& text) {
  const json value = parse_json(text);
  std::string written;
  write_json(value, 0, written);
  if (written != text) bad("a nested attribute is not in its compact form");
  return to_nested(value);
}

void check_module_attributes(const std::string& text) {
  const json attributes = parse_json(text);
  if (!attributes.is_object()) bad("the program has no attributes");
  // Keys are sorted by code points in both languages.
  std::string written = "{";
  for (const auto& [key, value] : attributes.items()) {
    if (written.size() > 1) written += ',';
    written += json(key).dump(-1, ' ', true) + ":";
    write_json(value, 0, written);
  }
  if (written + "}" != text) bad("the program's attributes are not in their compact form");
}

}  // namespace mpcc::graph
