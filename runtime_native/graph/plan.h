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

#include "graph/program.h"

namespace mpcc::graph {

struct Action {
  enum class Kind : std::uint8_t {
    compute,  // run the op
    alias,    // reshape, or a transfer inside the endpoint: the same bytes
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
  std::size_t outgoing_bytes = 0;  // sum over the phase: a bound, buffers are used again
  std::size_t message_bytes = 0;   // largest sum of received values alive at once
  std::vector<net::Expected> expected;
};

struct Plan {
  std::set<Place> places;
  std::uint32_t self = 0;
  std::uint32_t driver = 0;                      // the endpoint that hosts the client
  std::vector<std::uint32_t> endpoint_of_place;  // by Place
  PhasePlan setup;
  PhasePlan online;
  std::vector<std::uint32_t> root;  // per value: the value whose bytes it shares
  std::vector<Home> home;           // per root
  std::vector<std::size_t> offset;  // per root at home in an arena
  std::size_t persistent_bytes = 0;

  // Bytes for values, known before anything runs; packed weights and code come on top.
  std::size_t peak_bytes() const;
};

// Throws Error("E-graph-place") when a place of the program is hosted nowhere or twice.
Plan make_plan(const Program& program, const std::vector<net::EndpointInfo>& endpoints,
               std::uint32_t self);

}  // namespace mpcc::graph
