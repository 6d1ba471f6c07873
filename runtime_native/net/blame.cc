#include "net/blame.h"

namespace mpcc::net {
namespace {

constexpr std::string_view kBegin = "{party=";
constexpr std::string_view kStep = ", step=";

std::string plain(std::string_view text) {
  std::string out(text);
  for (char& c : out) {
    if (c == '{') c = '(';
    if (c == '}') c = ')';
  }
  return out;
}

}  // namespace

std::string blame_text(std::string_view party, std::string_view step) {
  std::string text = " ";
  text.append(kBegin).append(plain(party)).append(kStep).append(plain(step)).append("}");
  return text;
}

std::string without_blame(std::string text) {
  for (auto begin = text.find(kBegin); begin != std::string::npos; begin = text.find(kBegin)) {
    const auto end = text.find('}', begin);
    if (end == std::string::npos) break;
    const auto from = begin > 0 && text[begin - 1] == ' ' ? begin - 1 : begin;
    text.erase(from, end + 1 - from);
  }
  return text;
}

std::optional<Blame> find_blame(const Error& error) {
  const std::string_view text = error.what();
  const auto begin = text.find(kBegin);
  if (begin == std::string_view::npos) return {};
  const std::string_view inside = text.substr(begin + kBegin.size());
  const auto end = inside.find('}');
  const auto step = inside.find(kStep);
  if (end == std::string_view::npos || step == std::string_view::npos || step > end) return {};
  return Blame{std::string(inside.substr(0, step)),
               std::string(inside.substr(step + kStep.size(), end - step - kStep.size()))};
}

Error blamed(const Error& error, std::string_view party, std::string_view step) {
  if (find_blame(error)) return error;
  return Error(error.code(), error.message(), error.where() + blame_text(party, step));
}

}  // namespace mpcc::net
