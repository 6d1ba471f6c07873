// The texts inside a program: the first byte says which reader takes the rest. What is accepted has
// one form, so writing it again gives the same text.
#include "graph/text.h"

#include <string>

#include "fuzz/common.h"
#include "kernels/op.h"
#include "kernels/type.h"

namespace mpcc::fuzz {
namespace {

std::string write(const Nested& value) {
  if (value.leaf) return std::to_string(value.value);
  std::string text = "[";
  for (const Nested& item : value.items) text += (text.size() > 1 ? "," : "") + write(item);
  return text + "]";
}

void read(std::uint8_t which, const std::string& text) {
  switch (which % 6) {
    case 0:
      MPCC_FUZZ_CHECK(graph::float_repr(graph::parse_float(text)) == text);
      break;
    case 1:
      MPCC_FUZZ_CHECK(write(graph::parse_nested(text)) == text);
      break;
    case 2:
      graph::check_module_attributes(text);
      break;
    case 3:
      MPCC_FUZZ_CHECK(ValueType::parse(text).str() == text);
      break;
    case 4: {
      std::string written;
      for (const Place place : key_holders(text))
        written += (written.empty() ? "" : "+") + std::string(place_name(place));
      MPCC_FUZZ_CHECK(written == text);
      break;
    }
    default:
      (void)graph::is_utf8(text);
      MPCC_FUZZ_CHECK(graph::is_utf8(printable(text)));
      MPCC_FUZZ_CHECK(place_name(parse_place(text)) == text);
  }
}

}  // namespace
}  // namespace mpcc::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  const std::string text = mpcc::fuzz::as_text(data + 1, size - 1);
  mpcc::fuzz::accepts([&] { mpcc::fuzz::read(data[0], text); });
  return 0;
}
