#include "fuzz/mutate_graph.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <limits>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/error.h"
#include "graph/graphdef.h"
#include "graph/text.h"
#include "kernels/op.h"
#include "testing/random.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t max_size);

namespace mpcc::fuzz {
namespace {

using graph::RawAttr;
using graph::RawFunction;
using graph::RawGraph;
using graph::RawNode;

// Result `result` of node `node` of the graph; node 0 is the program's own and has none.
struct Ref {
  std::size_t node = 0;
  std::size_t result = 0;
};
using Refs = std::vector<std::vector<Ref>>;

constexpr std::size_t kSpecs = 0
#define A(name, kind)
#define X(Name, node_op, least, most, elementwise, attributes) +1
#include "kernels/party_ops.inc"
#undef X
#undef A
    ;

const OpSpec& any_spec(testing::TestRandom& random) {
  return spec_of(static_cast<OpCode>(random.below(kSpecs)));
}

Ref parse_ref(const std::string& text) {
  Ref ref;
  const char* end = text.data() + text.size();
  if (text.size() < 2 || text[0] != 'n') return ref;
  const auto node = std::from_chars(text.data() + 1, end, ref.node);
  if (node.ec == std::errc() && node.ptr != end) std::from_chars(node.ptr + 1, end, ref.result);
  ref.node = std::min<std::size_t>(ref.node, 1U << 30) + 1;
  return ref;
}

std::string write_ref(const Ref& ref) {
  std::string text = "n" + std::to_string(ref.node == 0 ? 0 : ref.node - 1);
  if (ref.result != 0) text += ":" + std::to_string(ref.result);
  return text;
}

std::string write_nested(const Nested& value) {
  if (value.leaf) return std::to_string(value.value);
  std::string text = "[";
  for (const Nested& item : value.items) text += (text.size() > 1 ? "," : "") + write_nested(item);
  return text + "]";
}

RawAttr* find(RawNode& node, std::string_view key) {
  for (auto& [name, attr] : node.attrs)
    if (name == key) return &attr;
  return nullptr;
}

void set(RawNode& node, const std::string& key, RawAttr attr) {
  if (RawAttr* found = find(node, key); found != nullptr)
    *found = std::move(attr);
  else
    node.attrs.emplace_back(key, std::move(attr));
}

bool belongs_to_every_op(std::string_view key) {
  return key == "_types" || key == "_loc" || key == "T" || key == "f";
}

RawAttr default_attr(AttrKind kind) {
  RawAttr attr;
  switch (kind) {
    case AttrKind::Int:
      attr.kind = RawAttr::Kind::integer;
      attr.integer = 1;
      break;
    case AttrKind::Bool:
      attr.kind = RawAttr::Kind::boolean;
      break;
    case AttrKind::Float:
      attr.kind = RawAttr::Kind::text;
      attr.text = "1.0";
      break;
    case AttrKind::Str:
      attr.kind = RawAttr::Kind::text;
      attr.text = "P0";
      break;
    case AttrKind::Nested:
      attr.kind = RawAttr::Kind::text;
      attr.text = "[]";
      break;
    case AttrKind::Ints:
    case AttrKind::Strs:
      attr.kind = RawAttr::Kind::list;
      break;
  }
  return attr;
}

class Mutation {
 public:
  Mutation(RawGraph graph, std::uint64_t seed) : g_(std::move(graph)), random_(seed) {}

  RawGraph run();

 private:
  void mutate_once();
  std::int64_t number(std::int64_t value);
  void numbers(std::vector<std::int64_t>& values);
  void nested(Nested& value, int depth);
  void text(const std::string& key, std::string& value);
  void attribute(RawNode& node);
  void copy_attribute(RawNode& node);
  void change_op(RawNode& node, const OpSpec& spec);
  void rewire(std::size_t at);
  void insert();
  void repeat();
  void remove();
  void in_body();

  RawFunction* called_by(RawNode& node);
  template <class Use>
  std::vector<std::string> walk(Use use);
  void own_functions();
  void share_functions();
  void keep(const std::vector<std::string>& called, std::vector<RawFunction> bodies);
  void retype();
  void retype_node(RawNode& node, const std::vector<Ref>& refs,
                   std::vector<std::vector<ValueType>>& results);
  std::vector<ValueType> retype_body(RawFunction& function, const std::vector<ValueType>& operands);
  static Attributes attributes_of(const RawNode& node, const OpSpec& spec);

  Ref any_ref(std::size_t before);
  std::size_t any_node() { return 1 + random_.below(g_.nodes.size() - 1); }
  bool chance(std::size_t one_in) { return random_.below(one_in) == 0; }

  RawGraph g_;
  Refs refs_;
  testing::TestRandom random_;
};

std::int64_t Mutation::number(std::int64_t value) {
  constexpr std::array<std::int64_t, 30> kNumbers = {
      0,   -1,  1,   2,   3,       4,       5,       7,       8,         16,
      31,  32,  33,  63,  64,      65,      -2,      -8,      127,       255,
      256, 511, 512, 513, 1 << 16, 1 << 20, 1 << 24, 1 << 30, 1LL << 40, 1LL << 62};
  switch (random_.below(8)) {
    case 0:
      return value < std::numeric_limits<std::int64_t>::max() ? value + 1 : value;
    case 1:
      return value > std::numeric_limits<std::int64_t>::min() ? value - 1 : value;
    case 2:
      return static_cast<std::int64_t>(static_cast<std::uint64_t>(value) ^
                                       (std::uint64_t{1} << random_.below(64)));
    case 3:
      return chance(2) ? std::numeric_limits<std::int64_t>::min()
                       : std::numeric_limits<std::int64_t>::max();
    case 4:  // anything, large
      return kNumbers[random_.below(kNumbers.size())];
    default:  // small ones keep a program runnable
      return kNumbers[random_.below(9)];
  }
}

void Mutation::numbers(std::vector<std::int64_t>& values) {
  const std::size_t at = values.empty() ? 0 : random_.below(values.size());
  const auto here = values.begin() + static_cast<std::ptrdiff_t>(at);
  switch (random_.below(6)) {
    case 0:
      values.insert(here, number(1));
      break;
    case 1:
      if (!values.empty()) values.erase(here);
      break;
    case 2:
      if (!values.empty()) std::swap(values[at], values[random_.below(values.size())]);
      break;
    default:
      if (!values.empty()) values[at] = number(values[at]);
  }
}

void Mutation::nested(Nested& value, int depth) {
  if (value.leaf) {
    if (chance(8) && depth < 20) {
      value = Nested{.leaf = false, .value = 0, .items = {value}};
      return;
    }
    value.value = number(value.value);
    return;
  }
  if (value.items.empty() || chance(4)) {
    if (chance(2) && !value.items.empty()) {
      value.items.push_back(value.items[random_.below(value.items.size())]);
    } else {
      value.items.push_back({.leaf = true, .value = number(0), .items = {}});
    }
    return;
  }
  const std::size_t at = random_.below(value.items.size());
  if (chance(6))
    value.items.erase(value.items.begin() + static_cast<std::ptrdiff_t>(at));
  else
    nested(value.items[at], depth + 1);
}

void Mutation::text(const std::string& key, std::string& value) {
  constexpr std::array<std::string_view, 22> kWords = {
      "P0",     "P1",    "P2",       "client", "model",  "P0+P1",  "P0+P2",        "P1+P2",
      "online", "setup", "P0+P1+P2", "x",      "",       "1e+300", "P0+P1+client", "inf",
      "-inf",   "nan",   "-0.0",     "-8.0",   "5e-324", "0.1"};
  if (key == "terms") {
    try {
      Nested parsed = graph::parse_nested(value);
      nested(parsed, 0);
      value = write_nested(parsed);
      return;
    } catch (const Error&) {
      value = "[]";
    }
  }
  switch (random_.below(4)) {
    case 0:
      if (!value.empty())
        value[random_.below(value.size())] = static_cast<char>(random_.next() >> 56);
      break;
    case 1:
      value += value;
      break;
    default:
      value = kWords[random_.below(kWords.size())];
  }
}

void Mutation::attribute(RawNode& node) {
  if (node.attrs.empty()) return;
  auto& [key, attr] = node.attrs[random_.below(node.attrs.size())];
  switch (attr.kind) {
    case RawAttr::Kind::integer:
    case RawAttr::Kind::type:
      attr.integer = number(attr.integer);
      break;
    case RawAttr::Kind::boolean:
      attr.integer ^= 1;
      break;
    case RawAttr::Kind::list:
      if (attr.texts.empty())
        numbers(attr.integers);
      else
        text(key, attr.texts[random_.below(attr.texts.size())]);
      break;
    case RawAttr::Kind::text:
    case RawAttr::Kind::function:
      text(key, attr.text);
      break;
    case RawAttr::Kind::none:
      break;
  }
}

// The value that another node has under one of this node's keys.
void Mutation::copy_attribute(RawNode& node) {
  if (node.attrs.empty()) return;
  auto& [key, attr] = node.attrs[random_.below(node.attrs.size())];
  const std::size_t start = any_node();
  for (std::size_t i = 0; i < g_.nodes.size(); ++i) {
    const RawAttr* other = g_.nodes[(start + i) % g_.nodes.size()].find(key);
    if (other == nullptr || other == &attr) continue;
    attr = RawAttr(*other);
    return;
  }
}

void Mutation::change_op(RawNode& node, const OpSpec& spec) {
  node.op = spec.node_op;
  std::erase_if(node.attrs, [&](const auto& entry) {
    return !belongs_to_every_op(entry.first) &&
           std::ranges::none_of(spec.attributes,
                                [&](const AttrSpec& a) { return a.name == entry.first; });
  });
  if (spec.code != OpCode::Fused)
    std::erase_if(node.attrs, [](const auto& e) { return e.first == "f"; });
  for (const AttrSpec& a : spec.attributes) {
    if (node.find(a.name) != nullptr) continue;
    const RawAttr* found = nullptr;
    const std::size_t start = any_node();
    for (std::size_t i = 0; i < g_.nodes.size() && found == nullptr; ++i)
      found = g_.nodes[(start + i) % g_.nodes.size()].find(a.name);
    node.attrs.emplace_back(a.name, found != nullptr ? RawAttr(*found) : default_attr(a.kind));
  }
}

Ref Mutation::any_ref(std::size_t before) {
  if (before <= 1) return {1, 0};
  // Near values fit more often.
  const std::size_t far = chance(2) ? before - 1 : std::min<std::size_t>(before - 1, 8);
  return {before - 1 - random_.below(far), chance(8) ? random_.below(3) : 0};
}

void Mutation::rewire(std::size_t at) {
  auto& refs = refs_[at];
  switch (random_.below(4)) {
    case 0:
      refs.push_back(any_ref(at));
      break;
    case 1:
      if (!refs.empty())
        refs.erase(refs.begin() + static_cast<std::ptrdiff_t>(random_.below(refs.size())));
      break;
    case 2:
      if (refs.size() > 1) std::swap(refs[0], refs[random_.below(refs.size())]);
      break;
    default:
      if (!refs.empty()) refs[random_.below(refs.size())] = any_ref(at);
  }
}

// A new node somewhere, of any op.
void Mutation::insert() {
  const std::size_t at = 1 + random_.below(g_.nodes.size());
  RawNode node;
  RawAttr types;
  types.kind = RawAttr::Kind::list;
  set(node, "_types", types);
  const OpSpec& spec = any_spec(random_);
  if (spec.code == OpCode::Fused) return;
  change_op(node, spec);
  for (auto& refs : refs_)
    for (Ref& ref : refs)
      if (ref.node >= at) ++ref.node;
  std::vector<Ref> refs;
  const std::size_t operands =
      static_cast<std::size_t>(spec.least) + (spec.most < 0 ? 1 + random_.below(3) : 0);
  for (std::size_t i = 0; i < operands; ++i) refs.push_back(any_ref(at));
  g_.nodes.insert(g_.nodes.begin() + static_cast<std::ptrdiff_t>(at), std::move(node));
  refs_.insert(refs_.begin() + static_cast<std::ptrdiff_t>(at), std::move(refs));
  // Somebody may use it.
  if (chance(2) && at + 1 < refs_.size() && !refs_[at + 1].empty()) refs_[at + 1][0] = {at, 0};
}

// A node again at the end, so that its value exists twice.
void Mutation::repeat() {
  const std::size_t from = any_node();
  RawNode node = g_.nodes[from];
  if (RawAttr* stream = find(node, "stream"); stream != nullptr && !chance(4))
    stream->integer = static_cast<std::int64_t>(random_.below(1U << 20));
  if (RawAttr* name = find(node, "name"); name != nullptr) name->text += "'";
  g_.nodes.push_back(std::move(node));
  refs_.push_back(refs_[from]);
}

// Whoever used the node uses its first operand.
void Mutation::remove() {
  if (g_.nodes.size() < 3) return;
  const std::size_t at = any_node();
  const Ref instead = refs_[at].empty() ? any_ref(at) : refs_[at][0];
  g_.nodes.erase(g_.nodes.begin() + static_cast<std::ptrdiff_t>(at));
  refs_.erase(refs_.begin() + static_cast<std::ptrdiff_t>(at));
  for (auto& refs : refs_)
    for (Ref& ref : refs) {
      if (ref.node == at)
        ref = instead;
      else if (ref.node > at)
        --ref.node;
    }
}

void Mutation::in_body() {
  if (g_.functions.empty()) return;
  RawFunction& f = g_.functions[random_.below(g_.functions.size())];
  if (f.nodes.empty()) return;
  RawNode& node = f.nodes[random_.below(f.nodes.size())];
  switch (random_.below(5)) {
    case 0:
      change_op(node, any_spec(random_));
      break;
    case 1:
      if (!node.inputs.empty()) {
        const std::size_t which = random_.below(f.inputs.size() + f.nodes.size());
        node.inputs[random_.below(node.inputs.size())] =
            which < f.inputs.size() ? "a" + std::to_string(which)
                                    : "b" + std::to_string(which - f.inputs.size()) + ":out:0";
      }
      break;
    case 2:
      copy_attribute(node);
      break;
    default:
      attribute(node);
  }
}

void Mutation::mutate_once() {
  const std::size_t at = any_node();
  switch (random_.below(14)) {
    case 0:
    case 1:
    case 2:
    case 3:
      attribute(g_.nodes[at]);
      break;
    case 4:
    case 5:
      copy_attribute(g_.nodes[at]);
      break;
    case 6:
      change_op(g_.nodes[at], any_spec(random_));
      break;
    case 7:
    case 8:
      rewire(at);
      break;
    case 9:
      insert();
      break;
    case 10:
      repeat();
      break;
    case 11:
      remove();
      break;
    default:
      in_body();
  }
}

Attributes Mutation::attributes_of(const RawNode& node, const OpSpec& spec) {
  Attributes out;
  for (const AttrSpec& a : spec.attributes) {
    const RawAttr* raw = node.find(a.name);
    if (raw == nullptr) throw Error("E-fuzz", "no attribute");
    switch (a.kind) {
      case AttrKind::Int:
        out.set(std::string(a.name), raw->integer);
        break;
      case AttrKind::Bool:
        out.set(std::string(a.name), raw->integer != 0);
        break;
      case AttrKind::Str:
        out.set(std::string(a.name), raw->text);
        break;
      case AttrKind::Float:
        out.set(std::string(a.name), graph::parse_float(raw->text));
        break;
      case AttrKind::Ints:
        out.set(std::string(a.name), raw->integers);
        break;
      case AttrKind::Strs:
        out.set(std::string(a.name), raw->texts);
        break;
      case AttrKind::Nested:
        out.set(std::string(a.name), graph::parse_nested(raw->text));
        break;
    }
  }
  return out;
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

void declare(RawNode& node, const std::vector<ValueType>& types, const ValueType* typed) {
  RawAttr list;
  list.kind = RawAttr::Kind::list;
  for (const ValueType& t : types) list.texts.push_back(t.str());
  set(node, "_types", list);
  std::erase_if(node.attrs, [](const auto& entry) { return entry.first == "T"; });
  if (typed == nullptr) return;
  RawAttr type;
  type.kind = RawAttr::Kind::type;
  type.integer = dtype_of(*typed);
  set(node, "T", type);
}

std::vector<ValueType> Mutation::retype_body(RawFunction& function,
                                             const std::vector<ValueType>& operands) {
  std::map<std::string, ValueType> types;
  function.inputs.clear();
  for (std::size_t i = 0; i < operands.size(); ++i) {
    function.inputs.push_back({"a" + std::to_string(i), dtype_of(operands[i])});
    types.emplace(function.inputs.back().name, operands[i]);
  }
  const auto type_of = [&](const std::string& name) {
    const auto found = types.find(name);
    if (found == types.end()) throw Error("E-fuzz", "no such value");
    return found->second;
  };
  for (std::size_t i = 0; i < function.nodes.size(); ++i) {
    RawNode& node = function.nodes[i];
    const OpSpec* spec = find_op(node.op);
    if (spec == nullptr) throw Error("E-fuzz", "no such op");
    std::vector<ValueType> in;
    for (const std::string& input : node.inputs) in.push_back(type_of(input));
    const auto out = infer(*spec, attributes_of(node, *spec), in);
    if (out.size() != 1) throw Error("E-fuzz", "one result");
    declare(node, out, &out[0]);
    types.emplace("b" + std::to_string(i) + ":out:0", out[0]);
  }
  std::map<std::string, std::string> sources(function.results.begin(), function.results.end());
  std::vector<ValueType> results;
  for (auto& output : function.outputs) {
    results.push_back(type_of(sources[output.name]));
    output.type = dtype_of(results.back());
  }
  return results;
}

void Mutation::retype_node(RawNode& node, const std::vector<Ref>& refs,
                           std::vector<std::vector<ValueType>>& results) {
  const OpSpec* spec = find_op(node.op);
  if (spec == nullptr) throw Error("E-fuzz", "no such op");
  std::vector<ValueType> operands;
  for (const Ref& ref : refs) {
    if (ref.node >= results.size() || ref.result >= results[ref.node].size())
      throw Error("E-fuzz", "no such value");
    operands.push_back(results[ref.node][ref.result]);
  }
  std::vector<ValueType> types;
  if (spec->code == OpCode::Call) {
    const RawAttr* texts = node.find("types");
    if (texts == nullptr) throw Error("E-fuzz", "no types");
    for (const std::string& text : texts->texts) types.push_back(ValueType::parse(text));
    if (types.empty()) throw Error("E-fuzz", "no result");
    declare(node, types, &types[0]);
    node.device.clear();
    results.push_back(std::move(types));
    return;
  }
  if (spec->code == OpCode::Fused) {
    const RawAttr* f = node.find("f");
    const auto found = std::ranges::find_if(
        g_.functions, [&](const RawFunction& x) { return f != nullptr && x.name == f->text; });
    if (found == g_.functions.end()) throw Error("E-fuzz", "no body");
    types = retype_body(*found, operands);
  } else {
    types = infer(*spec, attributes_of(node, *spec), operands);
  }
  const ValueType* typed = !types.empty() ? &types[0] : operands.empty() ? nullptr : &operands[0];
  declare(node, types, typed);
  if (typed != nullptr) {
    const std::string name(place_name(typed->place));
    const bool party = typed->place <= Place::P2;
    node.device = "/job:" + (party ? "party" : name) +
                  "/replica:0/task:" + (party ? name.substr(1) : "0") + "/device:CPU:0";
  }
  results.push_back(std::move(types));
}

// What the file declares follows from what has been changed, up to the first node that is wrong.
void Mutation::retype() {
  std::vector<std::vector<ValueType>> results(1);
  try {
    for (std::size_t i = 1; i < g_.nodes.size(); ++i) retype_node(g_.nodes[i], refs_[i], results);
  } catch (const Error&) {
    // The loader is to find it too.
  }
}

// The function that a node calls.
RawFunction* Mutation::called_by(RawNode& node) {
  const RawAttr* callee = node.op == "MpccCall" ? node.find("callee") : nullptr;
  if (callee == nullptr) return nullptr;
  const auto found = std::ranges::find_if(
      g_.functions, [&](const RawFunction& x) { return x.name == "call_" + callee->text; });
  return found == g_.functions.end() ? nullptr : &*found;
}

// All nodes in the order in which bodies count as used: a function's at its first call. Gives the
// names of called functions in that order.
template <class Use>
std::vector<std::string> Mutation::walk(Use use) {
  std::vector<std::string> called;
  for (RawNode& node : g_.nodes) {
    RawFunction* function = called_by(node);
    if (function != nullptr && std::ranges::find(called, function->name) == called.end()) {
      called.push_back(function->name);
      for (RawNode& inner : function->nodes) use(inner);
    }
    use(node);
  }
  return called;
}

// Every fused node gets a body of its own, so that bodies can change one by one.
void Mutation::own_functions() {
  std::vector<RawFunction> own;
  const auto called = walk([&](RawNode& node) {
    RawAttr* f = find(node, "f");
    if (f == nullptr) return;
    const auto found =
        std::ranges::find_if(g_.functions, [&](const RawFunction& x) { return x.name == f->text; });
    if (found == g_.functions.end()) return;
    own.push_back(*found);
    own.back().name = f->text = "own_" + std::to_string(own.size());
  });
  keep(called, std::move(own));
}

// Equal bodies once, in the order of their use, as they are written.
void Mutation::share_functions() {
  std::vector<RawFunction> shared;
  std::map<std::string, std::string> by_body;
  const auto called = walk([&](RawNode& node) {
    RawAttr* f = find(node, "f");
    if (f == nullptr) return;
    const auto found =
        std::ranges::find_if(g_.functions, [&](const RawFunction& x) { return x.name == f->text; });
    if (found == g_.functions.end()) return;
    const auto [entry, added] =
        by_body.emplace(graph::write_body(*found), "fused_" + std::to_string(shared.size()));
    if (added) {
      shared.push_back(*found);
      shared.back().name = entry->second;
    }
    f->text = entry->second;
  });
  keep(called, std::move(shared));
}

// The library: functions that are called, then bodies.
void Mutation::keep(const std::vector<std::string>& called, std::vector<RawFunction> bodies) {
  std::vector<RawFunction> library;
  for (const std::string& name : called)
    library.push_back(
        *std::ranges::find_if(g_.functions, [&](const RawFunction& x) { return x.name == name; }));
  for (RawFunction& body : bodies) library.push_back(std::move(body));
  g_.functions = std::move(library);
}

RawGraph Mutation::run() {
  for (const RawNode& node : g_.nodes) {
    refs_.emplace_back();
    for (const std::string& input : node.inputs) refs_.back().push_back(parse_ref(input));
  }
  own_functions();
  const std::size_t times = std::size_t{1} << random_.below(4);
  for (std::size_t i = 0; i < times; ++i) mutate_once();
  if (!chance(8)) retype();
  share_functions();
  for (std::size_t i = 1; i < g_.nodes.size(); ++i) {
    g_.nodes[i].name = "n" + std::to_string(i - 1);
    g_.nodes[i].inputs.clear();
    for (const Ref& ref : refs_[i]) g_.nodes[i].inputs.push_back(write_ref(ref));
  }
  return std::move(g_);
}

}  // namespace

std::size_t mutate_graph(std::uint8_t* data, std::size_t size, std::size_t max_size,
                         std::uint64_t seed) {
  if (seed % 8 == 0) return LLVMFuzzerMutate(data, size, max_size);
  try {
    RawGraph graph = graph::read_graphdef(std::as_bytes(std::span(data, size)));
    if (graph.nodes.size() < 2) return LLVMFuzzerMutate(data, size, max_size);
    const std::string out = graph::write_graphdef(Mutation(std::move(graph), seed).run());
    if (out.size() > max_size) return LLVMFuzzerMutate(data, size, max_size);
    std::ranges::copy(out, data);
    return out.size();
  } catch (const Error&) {
    return LLVMFuzzerMutate(data, size, max_size);
  }
}

}  // namespace mpcc::fuzz
