// What one endpoint does, decided before anything runs: the actions of each phase in order, where
// every value lives, and how much memory that takes.
//
// The order is the program's static schedule (Program::order) of the endpoint's places merged, with
// two refinements that no peer can notice: a message is sent right after its value is computed, and
// work that depends on no input (masks, mostly) is put off until its first use, so that masks of a
// whole network are not held in memory at once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <set>
#include <vector>

#include "graph/budget.h"
#include "graph/program.h"

namespace mpcc::graph {

struct Action {
  enum class Kind : std::uint8_t {
    compute,  // run the op
    alias,    // reshape, transfer inside the endpoint, slice in one piece: bytes of the operand
    receive,  // wait for the transfer's message
    send,     // give the transfer's message to the transport
  };
  Kind kind = Kind::compute;
  std::uint32_t op = 0;
  std::uint32_t peer = 0;  // send, receive: endpoint
  bool more = false;       // send: another message to this peer follows right away
  // Values (roots) whose last use this was.
  std::vector<std::uint32_t> ends;
};

// Where the bytes of a value are.
enum class Home : std::uint8_t {
  none,        // not at this endpoint
  arena,       // at an offset of the phase's arena
  persistent,  // a buffer of the session: computed in setup, used by runs
  outgoing,    // a buffer shared with the transport until it is written
  message,     // the buffer in which it arrived
};

struct PhasePlan {
  std::vector<Action> actions;
  // Actions before this index happen before the clock starts: input shares travel.
  std::size_t sharing_ends = 0;
  std::size_t arena_bytes = 0;
  // Bounds that hold whatever the timing: all messages of a phase may wait to be written, or have
  // arrived before the first is used, up to the limits of queues.
  std::size_t outgoing_bytes = 0;
  std::size_t message_bytes = 0;
  std::size_t temporary_bytes = 0;  // most that one kernel holds while it runs
  std::size_t output_bytes = 0;     // opened outputs
  std::uint64_t work = 0;           // kernels::Demand::work, messages counted as words
  std::vector<net::Expected> expected;
};

// An op and what is largest about it, for errors.
struct Largest {
  std::uint32_t op = 0;
  std::uint64_t amount = 0;
};

struct PlanOptions {
  int threads = 1;
  Limits limits;
};

struct Plan {
  std::set<Place> places;
  std::uint32_t self = 0;
  std::uint32_t driver = 0;                      // the endpoint that hosts the client
  std::vector<std::uint32_t> endpoint_of_place;  // by Place
  PhasePlan setup;
  PhasePlan online;
  std::vector<std::uint32_t> root;  // per value: the value whose bytes it shares
  std::vector<std::size_t> shift;   // per value: where its own begin among those
  std::vector<Home> home;           // per root
  std::vector<std::size_t> offset;  // per root at home in an arena
  std::size_t persistent_bytes = 0;
  std::size_t packed_bytes = 0;     // operands in the form of the kernels, kept for the session
  std::size_t scratch_bytes = 0;    // working memory of all threads, kept
  std::size_t transport_bytes = 0;  // buffers of the connections
  Largest largest_memory;           // bytes that one op accounts for
  Largest largest_work;

  // Most bytes that the engine and its transport hold at once, known before anything runs: values,
  // packed operands, working memory, messages, connections. Program, code and libraries come on
  // top.
  std::size_t peak_bytes() const;
};

// Bytes of the buffer that holds an outgoing value: a few classes of sizes, so that buffers serve
// again; at most an eighth more than the value.
std::size_t outgoing_class(std::size_t bytes) noexcept;

// Throws Error("E-graph-place") when a place of the program is hosted nowhere or twice,
// Error("E-limit-memory") or Error("E-limit-work") beyond the limits. Allocates for the plan only.
Plan make_plan(const Program& program, const std::vector<net::EndpointInfo>& endpoints,
               std::uint32_t self, const PlanOptions& options = {});

}  // namespace mpcc::graph
