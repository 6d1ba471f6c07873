// What an endpoint tells the driver at the end of a phase: what it sent, and how deep. Nothing
// secret, and nothing that is believed: the driver knows the program, so it knows most of it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <set>
#include <span>
#include <string>

#include "graph/program.h"

namespace mpcc::graph {

struct PhaseReport {
  std::map<std::string, std::uint64_t> bytes_sent;  // payload, by directed link "0->1"
  std::uint64_t messages = 0;
  std::uint32_t rounds = 0;
  std::uint64_t rss_bytes = 0;   // peak, of the process
  std::uint64_t wire_bytes = 0;  // sent, TLS included
};

// Reads the report of an endpoint that hosts `places`. Bytes and messages must be those of the
// program, rounds at most its rounds, the other two plausible. Throws Error("E-net-frame").
PhaseReport read_report(std::span<const std::byte> text, const Program& program,
                        const std::set<Place>& places, bool online);

}  // namespace mpcc::graph
