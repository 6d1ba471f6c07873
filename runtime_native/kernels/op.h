// Party-level operators: the table of names and attributes (generated: party_ops.inc), one op of a
// program, and type inference. infer() repeats every check of mpcc/ir/ops/party.py, so an op that
// it has accepted can run on buffers of its types without further questions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "kernels/type.h"

namespace mpcc {

enum class OpCode : std::uint8_t {
#define A(name, kind)
#define X(Name, node_op, least, most, elementwise, attributes) Name,
#include "kernels/party_ops.inc"
#undef X
#undef A
};

// A list of integers or of lists, any depth: the attribute kind "nested".
struct Nested {
  bool leaf = false;
  std::int64_t value = 0;
  std::vector<Nested> items;
};

enum class AttrKind : std::uint8_t { Int, Float, Bool, Str, Ints, Strs, Nested };
using AttrValue = std::variant<std::int64_t, double, bool, std::string, std::vector<std::int64_t>,
                               std::vector<std::string>, Nested>;

struct AttrSpec {
  std::string_view name;
  AttrKind kind;
};

struct OpSpec {
  OpCode code;
  std::string_view name;     // "Add"
  std::string_view node_op;  // "MpccAdd"
  int least;
  int most;  // -1: any number
  bool elementwise;
  std::span<const AttrSpec> attributes;
};

const OpSpec& spec_of(OpCode code) noexcept;
// Null for an unknown name.
const OpSpec* find_op(std::string_view node_op) noexcept;

class Attributes {
 public:
  void set(std::string name, AttrValue value) { values_[std::move(name)] = std::move(value); }
  bool has(std::string_view name) const { return values_.find(name) != values_.end(); }
  std::size_t size() const noexcept { return values_.size(); }

  // Throw Error("E-graph-attribute") when absent or of another kind.
  std::int64_t integer(std::string_view name) const { return get<std::int64_t>(name); }
  double real(std::string_view name) const { return get<double>(name); }
  const std::string& text(std::string_view name) const { return get<std::string>(name); }
  const std::vector<std::int64_t>& integers(std::string_view name) const {
    return get<std::vector<std::int64_t>>(name);
  }
  const Nested& nested(std::string_view name) const { return get<Nested>(name); }

 private:
  template <class T>
  const T& get(std::string_view name) const;

  std::map<std::string, AttrValue, std::less<>> values_;
};

struct Op;

// The body of a fused region: `arguments` values first, then the results of the ops in order.
struct Body {
  std::vector<ValueType> arguments;
  std::vector<Op> ops;
  std::vector<std::uint32_t> results;  // value numbers
};

struct Op {
  OpCode code = OpCode::Add;
  Attributes attributes;
  std::vector<std::uint32_t> operands;  // value numbers
  std::vector<std::uint32_t> results;
  std::vector<ValueType> types;      // of the results
  std::shared_ptr<const Body> body;  // Fused only
  std::string label;                 // step or source position, for errors
};

// The place an op without operands names.
Place place_attribute(const Attributes& attributes);
// Holders of a key name like "P0+P2+client". Throws Error("E-graph-key") unless they are two or
// more places in order.
std::vector<Place> key_holders(std::string_view key);

// Result types. Throws Error("E-graph-op") when operands or attributes do not fit, with the op and
// what it was given. Does not look into bodies: see check_body().
std::vector<ValueType> infer(const OpSpec& op, const Attributes& attributes,
                             std::span<const ValueType> operands);
// Types of a body's results: every op re-inferred and compared with its declared types, all ops at
// one place, elementwise and over the same lanes.
std::vector<ValueType> check_body(const Body& body);

// Output sizes of a convolution, as mpcc/ir/linear.py; throws Error("E-graph-op").
std::vector<std::int64_t> conv_output_shape(const std::vector<std::int64_t>& x,
                                            const std::vector<std::int64_t>& w,
                                            const std::vector<std::int64_t>& strides,
                                            const std::vector<std::int64_t>& pads,
                                            const std::vector<std::int64_t>& dilations,
                                            std::int64_t groups);

// Planes of (index, tables) for a list of block sizes; throws Error("E-graph-op").
std::pair<std::int64_t, std::int64_t> table_planes(const std::vector<std::int64_t>& blocks);

}  // namespace mpcc
