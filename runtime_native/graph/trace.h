// What an endpoint did when: ops, waits for messages, sends. Names of steps as the program has
// them, sizes and times; no value.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <vector>

#include "graph/plan.h"
#include "graph/program.h"

namespace mpcc::graph {

class Trace {
 public:
  using Clock = std::chrono::steady_clock;
  // About 50 MB; what comes later is counted and left out.
  static constexpr std::size_t kMostEvents = std::size_t{1} << 20;

  // A step of the schedule. `bytes`: of its results or its message.
  void add(const Action& action, std::uint64_t run, Clock::time_point begin, std::uint64_t bytes);
  // What belongs to no op: "agree on keys". The name must be a literal.
  void add(const char* name, std::uint64_t run, Clock::time_point begin);

  std::size_t events() const noexcept { return events_.size(); }

  // A JSON object in Chrome's trace event format (ui.perfetto.dev and chrome://tracing read it):
  // complete events in microseconds of this machine's monotonic clock, process `self` with one
  // thread, and their names. Categories: compute, wait, send, control.
  std::string json(const Program& program, const std::vector<std::string>& endpoints,
                   std::uint32_t self) const;

 private:
  struct Event {
    const char* name = nullptr;  // control events
    Action::Kind kind = Action::Kind::compute;
    std::uint32_t op = 0;
    std::uint32_t peer = 0;
    std::uint64_t run = 0;
    std::uint64_t bytes = 0;
    Clock::time_point begin;
    Clock::time_point end;
  };
  void put(Event event);

  std::vector<Event> events_;
  std::uint64_t left_out_ = 0;
};

}  // namespace mpcc::graph
