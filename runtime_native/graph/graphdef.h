// GraphDef bytes to nodes, with hard limits: the first of two steps of loading, which knows
// protobuf's wire format and nothing of ops. Written against TensorFlow's field numbers; a field
// that a party program does not use is refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace mpcc::graph {

// No op has so many. The other limits are those of kernels/limits.h.
inline constexpr std::size_t kMaxNodeAttrs = 32;

struct RawAttr {
  enum class Kind { none, text, integer, boolean, type, list, function } kind = Kind::none;
  std::string text;          // s, or the function's name
  std::int64_t integer = 0;  // i, b, type
  std::vector<std::int64_t> integers;
  std::vector<std::string> texts;
  std::vector<std::int64_t> types;  // TensorFlow's alone: no program has a list of them
};

struct RawNode {
  std::string name;
  std::string op;
  std::string device;
  std::vector<std::string> inputs;
  std::vector<std::pair<std::string, RawAttr>> attrs;

  const RawAttr* find(std::string_view key) const noexcept;
};

// Items (docs/artifact-format.md) are what a few bytes can stand for many of: they are counted
// while they are read, so that a small file cannot fill the memory.
struct RawFunction {
  struct Arg {
    std::string name;
    std::int64_t type = 0;
  };
  std::string name;
  std::vector<Arg> inputs;
  std::vector<Arg> outputs;
  std::vector<RawNode> nodes;
  std::vector<std::pair<std::string, std::string>> results;  // ret
  std::size_t items = 0;
};

struct RawGraph {
  std::vector<RawNode> nodes;
  std::vector<RawFunction> functions;
  std::int64_t producer = 0;
  std::int64_t min_consumer = 0;
  std::size_t items = 0;  // bodies once
};

// Throws Error("E-graph") for malformed bytes and Error("E-graph-limit").
RawGraph read_graphdef(std::span<const std::byte> bytes);

// The one encoding of a graph: fields by number, maps by key, nothing twice, no default written.
// A program is exactly these bytes, so that nobody can read it in another way.
std::string write_graphdef(const RawGraph& graph);
// The same of one function, without its name.
std::string write_body(const RawFunction& function);
// The same of an attribute's value.
std::string write_attr(const RawAttr& attr);

}  // namespace mpcc::graph
