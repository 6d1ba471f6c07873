#include "prg/ledger.h"

#include <algorithm>
#include <cstdlib>
#include <string_view>
#include <utility>

#include "base/error.h"

namespace mpcc::prg {

Ledger::Ledger(std::string name, unsigned uses) : name_(std::move(name)), uses_(uses) {}

void Ledger::claim(std::uint64_t stream, std::uint64_t first, std::uint64_t count) {
  if (count == 0) return;
  const std::lock_guard lock(mutex_);
  std::vector<Ranges>& drawn = streams_.try_emplace(stream, uses_).first->second;
  // What is new to a layer stays there; what it has already goes to the next one.
  std::vector<std::pair<std::uint64_t, std::uint64_t>> todo = {{first, first + (count - 1)}};
  for (Ranges& ranges : drawn) {
    std::vector<std::pair<std::uint64_t, std::uint64_t>> again;
    for (auto [begin, end] : todo) {
      // Everything that overlaps or touches [begin, end] becomes one range.
      auto it = ranges.upper_bound(begin);
      if (it != ranges.begin() && std::prev(it)->second >= (begin == 0 ? 0 : begin - 1)) --it;
      std::uint64_t low = begin, high = end;
      while (it != ranges.end() && (it->first <= end || it->first - 1 == end)) {
        const std::uint64_t from = std::max(begin, it->first), to = std::min(end, it->second);
        if (from <= to) again.emplace_back(from, to);
        low = std::min(low, it->first);
        high = std::max(high, it->second);
        it = ranges.erase(it);
      }
      ranges.emplace(low, high);
    }
    todo = std::move(again);
    if (todo.empty()) return;
  }
  throw Error("E-prg-reuse", "blocks " + std::to_string(todo.front().first) + " to " +
                                 std::to_string(todo.front().second) + " of stream " +
                                 std::to_string(stream) + " of key " + name_ +
                                 " are drawn a second time");
}

bool reuse_is_checked() {
#ifndef NDEBUG
  return true;
#else
  const char* set = std::getenv("MPCC_DEBUG_PRG");
  const std::string_view value = set == nullptr ? "" : set;
  if (value != "" && value != "0" && value != "1")
    throw Error("E-option", "MPCC_DEBUG_PRG is 0 or 1", "MPCC_DEBUG_PRG");
  return value == "1";
#endif
}

}  // namespace mpcc::prg
