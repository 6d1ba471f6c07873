#include "base/error.h"

#include <utility>

namespace mpcc {

Error::Error(std::string code, std::string message, std::string where)
    : code_(std::move(code)), message_(std::move(message)), where_(std::move(where)) {
  text_ = code_ + ": " + message_;
  if (!where_.empty()) text_ += " [" + where_ + "]";
}

Error Error::within(std::string_view outer) const {
  std::string place(outer);
  if (!where_.empty()) place += " > " + where_;
  return Error(code_, message_, std::move(place));
}

}  // namespace mpcc
