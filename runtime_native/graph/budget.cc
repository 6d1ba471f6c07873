#include "graph/budget.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <limits>

#include "base/error.h"

namespace mpcc::graph {
namespace {

// A control group's limit, or no limit: "max", no such file, or a number beyond any machine.
std::uint64_t limit_in(const std::string& path) {
  std::ifstream file(path);
  std::uint64_t bytes = 0;
  if (file >> bytes && bytes != 0) return bytes;
  return std::numeric_limits<std::uint64_t>::max();
}

std::uint64_t group_limit() {
  std::uint64_t least = std::min(limit_in("/sys/fs/cgroup/memory.max"),
                                 limit_in("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
  // "0::/a/b" (version 2) or "9:memory:/a/b" (version 1): every group on the path may have a limit.
  std::ifstream groups("/proc/self/cgroup");
  std::string line;
  for (int i = 0; i < 64 && std::getline(groups, line); ++i) {
    const auto first = line.find(':');
    const auto second = line.find(':', first + 1);
    if (first == std::string::npos || second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    if (!controllers.empty() && controllers.find("memory") == std::string::npos) continue;
    const bool unified = controllers.empty();
    const std::string root = unified ? "/sys/fs/cgroup" : "/sys/fs/cgroup/memory";
    for (std::string path = line.substr(second + 1); path.size() > 1; path.resize(path.rfind('/')))
      least = std::min(
          least, limit_in(root + path + (unified ? "/memory.max" : "/memory.limit_in_bytes")));
  }
  return least;
}

double number(std::string_view text, std::string_view& rest, std::string_view what) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || !std::isfinite(value) || value < 0)
    throw Error("E-config", std::string(what) + " must be a positive number");
  rest = text.substr(static_cast<std::size_t>(end - text.data()));
  while (!rest.empty() && rest.front() == ' ') rest.remove_prefix(1);
  return value;
}

std::uint64_t whole(double value, std::string_view what) {
  // 2^63: far above every limit, and converts without a question.
  if (value < 1 || value > 9.2e18)
    throw Error("E-config", std::string(what) + " must be between 1 and 9.2e18");
  return static_cast<std::uint64_t>(value);
}

}  // namespace

std::uint64_t Limits::default_max_memory() {
  static const std::uint64_t bytes = [] {
    const long pages = ::sysconf(_SC_PHYS_PAGES);
    const long size = ::sysconf(_SC_PAGESIZE);
    std::uint64_t most = std::numeric_limits<std::uint64_t>::max();
    if (pages > 0 && size > 0)
      most = static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(size);
    return std::min(most, group_limit()) / 4 * 3;
  }();
  return bytes;
}

std::uint64_t parse_bytes(std::string_view text) {
  constexpr std::string_view kWhat = "an amount of memory, such as 2GiB,";
  struct Unit {
    std::string_view name;
    double bytes;
  };
  constexpr std::array<Unit, 10> kUnits = {{{"", 1},
                                            {"B", 1},
                                            {"kB", 1e3},
                                            {"MB", 1e6},
                                            {"GB", 1e9},
                                            {"TB", 1e12},
                                            {"KiB", 1024.0},
                                            {"MiB", 1048576.0},
                                            {"GiB", 1073741824.0},
                                            {"TiB", 1099511627776.0}}};
  std::string_view unit;
  const double value = number(text, unit, kWhat);
  for (const Unit& u : kUnits)
    if (unit == u.name) return whole(value * u.bytes, kWhat);
  throw Error("E-config", "units of memory are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB");
}

std::uint64_t parse_work(std::string_view text) {
  std::string_view rest;
  const double value = number(text, rest, "work");
  if (!rest.empty()) throw Error("E-config", "work is a number such as 1e13");
  return whole(value, "work");
}

std::string bytes_text(std::uint64_t bytes) {
  constexpr std::array<const char*, 5> kUnits = {"B", "KiB", "MiB", "GiB", "TiB"};
  auto value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < kUnits.size()) {
    value /= 1024;
    ++unit;
  }
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), unit == 0 ? "%.0f %s" : "%.2f %s", value, kUnits[unit]);
  return text.data();
}

std::string work_text(std::uint64_t work) {
  std::array<char, 32> text;
  std::snprintf(text.data(), text.size(), "%.3g", static_cast<double>(work));
  return text.data();
}

}  // namespace mpcc::graph
