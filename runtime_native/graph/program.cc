#include "graph/program.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <map>
#include <string_view>
#include <tuple>
#include <unordered_map>
#include <unordered_set>
#include <utility>

#include "base/error.h"
#include "graph/graphdef.h"
#include "graph/text.h"
#include "kernels/limits.h"
#include "net/keys.h"

namespace mpcc::graph {
namespace {

constexpr std::int64_t kProducer = 2000;

// Of functions that are called, as mpcc/ir/calls.py has them.
constexpr std::string_view kCalled = "call_";
constexpr int kStreamBits = 32;
constexpr std::int64_t kMaxCalls = std::int64_t{1} << 30;

[[noreturn]] void bad(const std::string& what) { throw Error("E-graph", what); }

void require_graph(bool ok, const char* what) {
  if (!ok) bad(what);
}

// "n17"
std::string numbered(char letter, std::size_t i) {
  std::string name(1, letter);
  name += std::to_string(i);
  return name;
}

std::string device_of(Place place) {
  const std::string name(place_name(place));
  const bool party = place <= Place::P2;
  return "/job:" + (party ? std::string("party") : name) +
         "/replica:0/task:" + (party ? name.substr(1) : std::string("0")) + "/device:CPU:0";
}

std::int64_t dtype_of(const ValueType& type) {
  switch (type.kind) {
    case ValueType::Kind::ring64:
      return 23;
    case ValueType::Kind::ring32:
      return 22;
    case ValueType::Kind::bits:
      return 4;
    case ValueType::Kind::clear:
      break;
  }
  return 1;
}

AttrValue to_attr(AttrKind kind, const RawAttr& raw) {
  require_graph(raw.types.empty(), "a list of types");
  const auto is = [&](RawAttr::Kind k) {
    if (raw.kind != k) bad("an attribute is stored as another kind");
  };
  switch (kind) {
    case AttrKind::Int:
      is(RawAttr::Kind::integer);
      return raw.integer;
    case AttrKind::Bool:
      is(RawAttr::Kind::boolean);
      return raw.integer != 0;
    case AttrKind::Str:
      is(RawAttr::Kind::text);
      require_graph(is_utf8(raw.text), "a string is not UTF-8");
      return raw.text;
    case AttrKind::Float:
      is(RawAttr::Kind::text);
      return parse_float(raw.text);
    case AttrKind::Ints:
      is(RawAttr::Kind::list);
      require_graph(raw.texts.empty(), "an attribute list of another kind");
      return raw.integers;
    case AttrKind::Strs:
      is(RawAttr::Kind::list);
      require_graph(raw.integers.empty() && std::ranges::all_of(raw.texts, is_utf8),
                    "an attribute list of another kind, or not UTF-8");
      return raw.texts;
    case AttrKind::Nested:
      is(RawAttr::Kind::text);
      return parse_nested(raw.text);
  }
  bad("unknown attribute kind");
}

// Op, attributes and declared types of a node; operands and body are the caller's.
Op read_op(const RawNode& node, bool in_body) {
  const OpSpec* spec = find_op(node.op);
  if (spec == nullptr) throw Error("E-graph-unknown-op", "unknown op '" + printable(node.op) + "'");
  Op op;
  op.code = spec->code;
  std::size_t known = 0;
  for (const AttrSpec& a : spec->attributes) {
    const RawAttr* raw = node.find(a.name);
    if (raw == nullptr) bad("attribute " + std::string(a.name) + " is missing");
    op.attributes.set(std::string(a.name), to_attr(a.kind, *raw));
    ++known;
  }
  const RawAttr* types = node.find("_types");
  require_graph(types != nullptr && types->kind == RawAttr::Kind::list && types->integers.empty() &&
                    types->types.empty(),
                "no _types");
  ++known;
  for (const std::string& text : types->texts) op.types.push_back(ValueType::parse(text));
  if (const RawAttr* loc = node.find("_loc"); loc != nullptr) {
    require_graph(loc->kind == RawAttr::Kind::text && !loc->text.empty() && is_utf8(loc->text),
                  "_loc is no string, or an empty one");
    op.label = printable(loc->text);
    ++known;
  }
  if (node.find("T") != nullptr) ++known;
  if (spec->code == OpCode::Fused && !in_body) {
    const RawAttr* f = node.find("f");
    require_graph(f != nullptr && f->kind == RawAttr::Kind::function, "no body");
    ++known;
  }
  require_graph(known == node.attrs.size(), "an attribute that the op does not have");
  return op;
}

void check_dtype(const RawNode& node, const ValueType* type) {
  const RawAttr* t = node.find("T");
  require_graph((t != nullptr) == (type != nullptr), "T is missing or out of place");
  if (t != nullptr)
    require_graph(t->kind == RawAttr::Kind::type && t->integer == dtype_of(*type),
                  "T does not agree with the type");
}

class Loader {
 public:
  explicit Loader(const RawGraph& graph)
      : graph_(graph), bodies_(graph.functions.size()), total_items_(graph.items) {
    // Names are numbers, so they are distinct; equal bodies share a function.
    std::unordered_set<std::string> bodies;
    while (first_body_ < graph.functions.size() &&
           graph.functions[first_body_].name.starts_with(kCalled)) {
      if (!functions_.emplace(graph.functions[first_body_].name, first_body_).second)
        bad("two functions have one name");
      ++first_body_;
    }
    used_functions_ = first_body_;
    for (std::size_t i = first_body_; i < graph.functions.size(); ++i) {
      const RawFunction& f = graph.functions[i];
      require_graph(f.name == "fused_" + std::to_string(i - first_body_),
                    "functions are not named in order");
      if (!bodies.insert(write_body(f)).second) bad("two functions are equal");
      functions_.emplace(f.name, i);
    }
  }

  Program run();

 private:
  // A list of nodes while it is read: the program's, or those of a function that is called.
  struct Scope {
    std::int64_t call = 0;                 // number of the call; 0 is the program itself
    std::vector<std::uint32_t> arguments;  // value numbers
    std::vector<std::vector<std::uint32_t>> results = {};  // of every node so far
  };
  std::uint32_t resolve(const std::string& input, const Scope& scope) const;
  // A function as the body of a region with arguments of some types; uses of one kind share it.
  struct Shared {
    std::shared_ptr<const Body> body;
    std::vector<ValueType> types;  // of the results
    bool draws = false;
  };
  Body read_body(const RawFunction& function, const std::vector<ValueType>& arguments);
  const Shared& use_body(std::size_t function, const std::vector<ValueType>& arguments);
  void add_node(Scope& scope, const RawNode& node);
  void add_op(Scope& scope, Op op, const RawNode& node, const std::vector<ValueType>& operands);
  void add_call(Scope& scope, const Op& op, const RawNode& node);
  void count_items(std::size_t n);
  void add_step(std::uint32_t index);
  void claim_stream(const Op& op);

  // What a stream of a key and phase gives, and the places that have drawn it.
  struct Stream {
    ValueType type;
    std::array<bool, kPlaces> drawn{};
  };

  const RawGraph& graph_;
  std::unordered_map<std::string, std::size_t> functions_;
  std::size_t first_body_ = 0;      // functions before it are called, the others regions' bodies
  std::size_t called_ = 0;          // functions before it have been called
  std::size_t used_functions_ = 0;  // bodies before it are used
  std::unordered_set<std::int64_t> calls_;                             // their numbers
  std::unordered_map<std::size_t, std::vector<ValueType>> arguments_;  // of called functions
  std::vector<std::map<std::string, Shared>> bodies_;  // per function, by argument types
  std::size_t total_ops_ = 0;
  std::size_t total_items_;
  std::map<std::tuple<std::string, std::string, std::int64_t>, Stream> streams_;
  Program p_;
};

// "n3" or "n3:1" to a value number; in a function "a3" or "n3:out:1".
std::uint32_t Loader::resolve(const std::string& input, const Scope& scope) const {
  const char* at = input.data();
  const char* end = at + input.size();
  const bool inside = scope.call != 0;
  std::uint32_t op = 0;
  std::uint32_t result = 0;
  require_graph(at != end && (*at == 'n' || (inside && *at == 'a')), "an input that is no node");
  const char letter = *at;
  auto parsed = std::from_chars(at + 1, end, op);
  require_graph(parsed.ec == std::errc(), "an input that is no node");
  if (letter == 'a') {
    require_graph(input == numbered('a', op), "an input's number is not in its shortest form");
    require_graph(op < scope.arguments.size(), "an argument that the function does not have");
    return scope.arguments[op];
  }
  const std::string_view mark = inside ? ":out:" : ":";
  if (inside || parsed.ptr != end) {
    const std::string_view rest(parsed.ptr, static_cast<std::size_t>(end - parsed.ptr));
    require_graph(rest.starts_with(mark), "an input that is no node");
    parsed = std::from_chars(parsed.ptr + mark.size(), end, result);
    require_graph(parsed.ec == std::errc() && parsed.ptr == end && (inside || result > 0),
                  "an input that is no node");
  }
  std::string shortest = numbered('n', op);
  if (inside || result > 0) shortest.append(mark).append(std::to_string(result));
  require_graph(input == shortest, "an input's number is not in its shortest form");
  require_graph(op < scope.results.size(), "an input that is not computed before");
  require_graph(result < scope.results[op].size(), "an input that its node does not have");
  return scope.results[op][result];
}

void Loader::count_items(std::size_t n) {
  total_items_ += n;
  if (total_items_ > kMaxItems)
    throw Error("E-graph-limit",
                "items of the program: more than the " + std::to_string(kMaxItems) + " allowed");
}

// The draws of a call have streams of their own: its number stands above the draw's.
void set_stream(Op& op, std::int64_t call) {
  if (op.code != OpCode::DrawRing && op.code != OpCode::DrawBits) return;
  const std::int64_t stream = op.attributes.integer("stream");
  require_graph(stream >= 0 && stream >> kStreamBits == 0, "a stream of more than 32 bits");
  op.attributes.set("stream", call << kStreamBits | stream);
}

// Every draw takes its stream from block 0. Were a stream drawn as two types, or twice at a place,
// a mask would be used twice, and the difference of two messages would show what they hide.
void Loader::claim_stream(const Op& op) {
  if (op.code != OpCode::DrawRing && op.code != OpCode::DrawBits) return;
  const std::string& key = op.attributes.text("key");
  const std::string& phase = op.attributes.text("phase");
  const std::int64_t number = op.attributes.integer("stream");
  ValueType type = op.types[0];
  const Place place = std::exchange(type.place, Place::P0);  // holders draw the same at any place
  const auto fail = [&](const std::string& what) {
    throw Error("E-graph-stream", "stream " + std::to_string(number) + " of key " + printable(key) +
                                      " (" + printable(phase) + ") " + what);
  };
  Stream& stream = streams_.try_emplace({key, phase, number}, Stream{type, {}}).first->second;
  if (stream.type != type) fail("is drawn as two types");
  if (std::exchange(stream.drawn[index_of(place)], true))
    fail("is drawn twice at " + std::string(place_name(place)));
}

Body Loader::read_body(const RawFunction& function, const std::vector<ValueType>& arguments) {
  Body body;
  body.arguments = arguments;
  require_graph(function.inputs.size() == arguments.size(), "body and node differ in operands");
  std::unordered_map<std::string, std::uint32_t> names;
  std::uint32_t next = 0;
  std::vector<ValueType> types = arguments;  // of all values; check_body() infers them anew
  for (std::size_t i = 0; i < arguments.size(); ++i) {
    const auto& arg = function.inputs[i];
    require_graph(arg.name == numbered('a', i) && arg.type == dtype_of(arguments[i]),
                  "a body's argument");
    names.emplace(arg.name, next++);
  }
  const auto value = [&](const std::string& name) {
    const auto found = names.find(name);
    require_graph(found != names.end(), "a body's input that is not computed before");
    return found->second;
  };
  for (std::size_t i = 0; i < function.nodes.size(); ++i) {
    const RawNode& node = function.nodes[i];
    const std::string name = numbered('b', i);
    require_graph(node.name == name && node.device.empty(), "a body's node has another name");
    Op op = read_op(node, true);
    require_graph(op.types.size() == 1, "an op of a body has one result");
    for (const std::string& input : node.inputs) op.operands.push_back(value(input));
    check_dtype(node, &op.types[0]);
    op.results.push_back(next);
    types.push_back(op.types[0]);
    names.emplace(name + ":out:0", next++);
    body.ops.push_back(std::move(op));
  }
  require_graph(function.results.size() == function.outputs.size(), "a body's results");
  std::map<std::string, std::string> results(function.results.begin(), function.results.end());
  for (std::size_t i = 0; i < function.outputs.size(); ++i) {
    const std::string name = numbered('r', i);
    require_graph(function.outputs[i].name == name && results.contains(name), "a body's results");
    body.results.push_back(value(results[name]));
    require_graph(function.outputs[i].type == dtype_of(types[body.results.back()]),
                  "the type of a body's result");
  }
  return body;
}

const Loader::Shared& Loader::use_body(std::size_t index, const std::vector<ValueType>& arguments) {
  const RawFunction& function = graph_.functions[index];
  total_ops_ += function.nodes.size();
  if (total_ops_ > kMaxOps) throw Error("E-graph-limit", "too many ops");
  // The first use was counted when the function was read.
  if (index == used_functions_)
    ++used_functions_;
  else
    count_items(function.items);
  std::string key;
  for (const ValueType& type : arguments) key.append(type.str()).append(";");
  const auto [found, fresh] = bodies_[index].try_emplace(std::move(key));
  Shared& shared = found->second;
  if (!fresh) return shared;
  auto body = std::make_shared<Body>(read_body(function, arguments));
  shared.types = check_body(*body);
  shared.draws = std::ranges::any_of(body->ops, [](const Op& op) {
    return op.code == OpCode::DrawRing || op.code == OpCode::DrawBits;
  });
  shared.body = std::move(body);
  return shared;
}

// A node of the program, or of a function in a call of it.
void Loader::add_node(Scope& scope, const RawNode& node) {
  require_graph(node.name == numbered('n', scope.results.size()), "nodes are not named in order");
  Op op = read_op(node, false);
  if (++total_ops_ > kMaxOps) throw Error("E-graph-limit", "too many ops");
  std::vector<ValueType> operands;
  for (const std::string& input : node.inputs) {
    op.operands.push_back(resolve(input, scope));
    operands.push_back(p_.values[op.operands.back()]);
  }
  if (op.code == OpCode::Call)
    add_call(scope, op, node);
  else
    add_op(scope, std::move(op), node, operands);
}

// A function's nodes in the place of a call. Nothing of a function is known before: every call
// reads it anew, and checks it.
void Loader::add_call(Scope& scope, const Op& op, const RawNode& node) {
  require_graph(scope.call == 0, "a function calls another");
  const std::int64_t number = op.attributes.integer("number");
  require_graph(number >= 1 && number < kMaxCalls, "a call's number is out of range");
  if (!calls_.insert(number).second) bad("two calls have the number " + std::to_string(number));
  require_graph(!op.types.empty(), "a call gives nothing");
  require_graph(node.find("types")->texts == node.find("_types")->texts,
                "the types that it declares are not those of its operands and attributes");
  check_dtype(node, &op.types[0]);
  require_graph(node.device.empty(), "a call is at no place alone");
  // The main program and functions of owners are not called (mpcc/ir/calls.py).
  const std::string callee(op.attributes.text("callee"));
  const bool own = callee == "main" || callee.starts_with("local.") || callee.starts_with("after.");
  const auto found = functions_.find(std::string(kCalled) + callee);
  require_graph(found != functions_.end() && found->second < first_body_ && !own,
                "a function that is not in the library");
  require_graph(found->second <= called_, "functions are not in order of their first calls");
  const RawFunction& function = graph_.functions[found->second];
  Scope inside{number, op.operands};
  std::vector<ValueType> given;
  for (const std::uint32_t v : op.operands) given.push_back(p_.values[v]);
  if (found->second == called_) {
    ++called_;
    arguments_.emplace(found->second, given);
  } else {
    count_items(function.items);
  }
  if (arguments_.at(found->second) != given) bad("the operands are not the function's arguments");
  require_graph(function.inputs.size() == given.size(), "function and call differ in operands");
  for (std::size_t i = 0; i < given.size(); ++i)
    require_graph(function.inputs[i].name == numbered('a', i) &&
                      function.inputs[i].type == dtype_of(given[i]),
                  "a function's argument");
  for (const RawNode& n : function.nodes) {
    try {
      add_node(inside, n);
    } catch (const Error& error) {
      throw error.within("function " + printable(function.name) + ", " + printable(n.name));
    }
  }
  require_graph(function.results.size() == function.outputs.size() &&
                    function.outputs.size() == op.types.size(),
                "a function's results");
  const std::map<std::string, std::string> results(function.results.begin(),
                                                   function.results.end());
  std::vector<std::uint32_t> values;
  for (std::size_t i = 0; i < function.outputs.size(); ++i) {
    const std::string name = numbered('r', i);
    require_graph(function.outputs[i].name == name && results.contains(name),
                  "a function's results");
    values.push_back(resolve(results.at(name), inside));
    const ValueType& type = p_.values[values.back()];
    require_graph(type == op.types[i] && function.outputs[i].type == dtype_of(type),
                  "the type of a function's result");
  }
  scope.results.push_back(std::move(values));
}

void Loader::add_op(Scope& scope, Op op, const RawNode& node,
                    const std::vector<ValueType>& operands) {
  const auto index = static_cast<std::uint32_t>(p_.ops.size());
  if (scope.call != 0) {
    require_graph(
        op.code != OpCode::Output && op.code != OpCode::Input && op.code != OpCode::Weight,
        "inputs, weights and outputs stand in the program itself");
    set_stream(op, scope.call);
  } else if (called_ != 0 || first_body_ != 0) {
    set_stream(op, 0);
  }
  const OpSpec& spec = spec_of(op.code);
  std::vector<ValueType> inferred;
  if (op.code == OpCode::Fused) {
    const auto function = functions_.find(node.find("f")->text);
    require_graph(function != functions_.end(), "a body that is not in the library");
    require_graph(function->second <= used_functions_, "functions are not in order of their use");
    require_graph(function->second >= first_body_, "a body that is called");
    const Shared& shared = use_body(function->second, operands);
    inferred = shared.types;
    op.body = shared.body;
    if (shared.draws && first_body_ != 0) {
      auto own = std::make_shared<Body>(*shared.body);
      for (Op& inner : own->ops) set_stream(inner, scope.call);
      op.body = std::move(own);
    }
    if (shared.draws)
      for (const Op& inner : op.body->ops) claim_stream(inner);
  } else {
    inferred = infer(spec, op.attributes, operands);
  }
  if (inferred != op.types)
    bad("the types that it declares are not those of its operands and attributes");
  claim_stream(op);
  const ValueType* typed = !op.types.empty()  ? &op.types[0]
                           : operands.empty() ? nullptr
                                              : &operands[0];
  require_graph(typed != nullptr, "an op without a place");
  check_dtype(node, typed);
  require_graph(node.device == device_of(typed->place), "its device is not its place");
  for (const ValueType& t : op.types) {
    require_graph(t.place == typed->place, "results at several places");
    op.results.push_back(static_cast<std::uint32_t>(p_.values.size()));
    p_.values.push_back(t);
    p_.producer.push_back(index);
  }
  scope.results.push_back(op.results);
  if (op.code == OpCode::Transfer) {
    const std::string step = printable(op.attributes.text("step"));
    op.label = op.label.empty() ? step : step + ", " + op.label;
  }
  p_.ops.push_back(std::move(op));
  add_step(index);
}

void Loader::add_step(std::uint32_t index) {
  const Op& op = p_.ops[index];
  const auto draws_online = [](const Op& o) {
    return (o.code == OpCode::DrawRing || o.code == OpCode::DrawBits) &&
           o.attributes.text("phase") == "online";
  };
  Step step;
  step.place = op.types.empty() ? p_.values[op.operands[0]].place : op.types[0].place;
  step.online = op.code == OpCode::Input || draws_online(op) ||
                (op.body && std::ranges::any_of(op.body->ops, draws_online));
  for (const std::uint32_t v : op.operands)
    step.online = step.online || p_.steps[p_.producer[v]].online;
  if (op.body && step.online)
    for (const Op& inner : op.body->ops)
      require_graph(
          (inner.code != OpCode::DrawRing && inner.code != OpCode::DrawBits) || draws_online(inner),
          "a region of a run draws from a key of the session");
  for (const std::uint32_t v : op.operands) {
    const Step& from = p_.steps[p_.producer[v]];
    if (from.online == step.online) step.depth = std::max(step.depth, from.depth);
  }
  std::uint32_t id = Program::kNoMessage;
  if (op.code == OpCode::Transfer) {
    ++step.depth;
    id = static_cast<std::uint32_t>(p_.messages.size());
    const ValueType& x = p_.values[op.operands[0]];
    p_.messages.push_back(
        {id, index, x.place, step.place, x.bytes(), step.depth, step.online, op.label});
  }
  p_.message_of_op.push_back(id);
  p_.steps.push_back(step);
}

Program Loader::run() {
  require_graph(!graph_.nodes.empty() && graph_.nodes[0].name == "program" &&
                    graph_.nodes[0].op == "MpccProgram",
                "the first node is not the program's");
  const RawNode& header = graph_.nodes[0];
  require_graph(header.inputs.empty() && header.device.empty() && header.attrs.size() == 1 &&
                    header.attrs[0].first == "_attrs" &&
                    header.attrs[0].second.kind == RawAttr::Kind::text,
                "the program's node has something else than its attributes");
  check_module_attributes(header.attrs[0].second.text);
  require_graph(graph_.producer == kProducer && graph_.min_consumer == 0, "the version");
  Scope scope;
  for (std::size_t i = 1; i < graph_.nodes.size(); ++i) {
    try {
      add_node(scope, graph_.nodes[i]);
    } catch (const Error& error) {
      throw error.within("node " + std::to_string(i - 1) + " " + printable(graph_.nodes[i].op));
    }
  }
  require_graph(used_functions_ == graph_.functions.size() && called_ == first_body_,
                "a function that nothing uses");
  for (std::uint32_t i = 0; i < p_.ops.size(); ++i)
    p_.order[index_of(p_.steps[i].place)].push_back(i);
  for (auto& order : p_.order)
    std::ranges::stable_sort(order, [&](std::uint32_t a, std::uint32_t b) {
      const Step& x = p_.steps[a];
      const Step& y = p_.steps[b];
      return std::tuple(x.online, x.depth, a) < std::tuple(y.online, y.depth, b);
    });
  return std::move(p_);
}

}  // namespace

std::string Program::describe(std::uint32_t op) const {
  if (op >= ops.size()) return "no op";  // of an empty program
  std::string text = "op " + std::to_string(op) + " " + std::string(spec_of(ops[op].code).name);
  if (!ops[op].label.empty()) text += " (" + ops[op].label + ")";
  return text;
}

std::uint32_t Program::rounds(bool online) const {
  std::uint32_t most = 0;
  for (const Message& m : messages)
    if (m.online == online) most = std::max(most, m.depth);
  return most;
}

std::string link_name(Place from, Place to) {
  const auto shown = [](Place p) {
    const std::string name(place_name(p));
    return p <= Place::P2 ? name.substr(1) : name;
  };
  return shown(from) + "->" + shown(to);
}

Program load_program(std::span<const std::byte> bytes) {
  const RawGraph graph = read_graphdef(bytes);
  Program program = Loader(graph).run();
  const std::string written = write_graphdef(graph);
  if (written.size() != bytes.size() ||
      std::memcmp(written.data(), bytes.data(), bytes.size()) != 0)
    bad("the encoding is not the one that is written");
  program.hash = net::sha256(bytes);
  return program;
}

}  // namespace mpcc::graph
