// A party program: ops, value types, messages and every place's order, loaded from a GraphDef.
//
// A program comes from a file and is treated as hostile: every op is known, every attribute
// declared, every type inferred anew and compared with what the file says, every operand at the
// op's place. What load_program() returns can be run without further checks of shapes.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/op.h"
#include "net/transport.h"

namespace mpcc::graph {

// When and where an op runs; mpcc/ir/schedule.py computes the same.
struct Step {
  Place place = Place::P0;  // a transfer's: the receiver
  bool online = false;      // else setup
  std::uint32_t depth = 0;  // messages in the longest chain up to and including this op, per phase
};

struct Message {
  std::uint32_t id = 0;
  std::uint32_t op = 0;
  Place from = Place::P0;
  Place to = Place::P0;
  std::uint64_t bytes = 0;
  std::uint32_t depth = 0;
  bool online = false;
  std::string step;  // protocol step and origin, for errors
};

struct Program {
  net::ProgramHash hash{};
  std::vector<Op> ops;
  std::vector<ValueType> values;
  std::vector<std::uint32_t> producer;       // op of each value
  std::vector<Step> steps;                   // per op
  std::vector<Message> messages;             // by id
  std::vector<std::uint32_t> message_of_op;  // for transfers; kNoMessage else
  std::array<std::vector<std::uint32_t>, kPlaces> order;

  static constexpr std::uint32_t kNoMessage = 0xffffffff;

  bool is_transfer(std::uint32_t op) const { return ops[op].code == OpCode::Transfer; }
  // "op 17 Conv (conv_3)" for errors.
  std::string describe(std::uint32_t op) const;
  std::uint32_t rounds(bool online) const;
};

// Name of a directed link in reports: "0->1", "client->0".
std::string link_name(Place from, Place to);

// Throws Error("E-graph..."), naming the node.
Program load_program(std::span<const std::byte> bytes);

}  // namespace mpcc::graph
