// Limits on what a program may use at one endpoint, checked on its plan before anything is
// allocated or anybody is called.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mpcc::graph {

// Default of Limits::max_work: hours on one core, and some eight hundred times the work of one
// party in a ResNet-50 (4.1e9 multiply-adds in the clear, three products each).
inline constexpr std::uint64_t kDefaultMaxWork = 10'000'000'000'000;

struct Limits {
  // Bytes that the plan of a phase may need: Plan::peak_bytes().
  std::uint64_t max_memory = default_max_memory();
  // Work of a phase in the units of kernels::Demand::work: multiply-adds, or words touched.
  std::uint64_t max_work = kDefaultMaxWork;
  // Bytes queued for one peer before sending waits.
  std::uint64_t queue_bytes = std::uint64_t{256} << 20;
  // Bytes of messages that have arrived and are not used yet, of all peers, before reading waits.
  std::uint64_t ahead_bytes = std::uint64_t{1} << 30;

  // Three quarters of what this process may have: the machine's memory or its control group's
  // limit, whichever is less. Read once per process.
  static std::uint64_t default_max_memory();
};

// "2GiB", "1.5 GiB", "500MB", "4096": bytes. Throws Error("E-config") for anything else.
std::uint64_t parse_bytes(std::string_view text);
// "1e13", "5000000". Throws Error("E-config").
std::uint64_t parse_work(std::string_view text);
// "1.50 GiB"
std::string bytes_text(std::uint64_t bytes);
// "2.2e+13"
std::string work_text(std::uint64_t work);

}  // namespace mpcc::graph
