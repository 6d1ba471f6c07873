#include "tf/node.h"

#include <protozero/pbf_reader.hpp>

#include "base/error.h"

namespace mpcc::tf {
namespace {

graph::RawAttr type_list(std::span<const ValueType> types) {
  graph::RawAttr attr;
  attr.kind = graph::RawAttr::Kind::list;
  for (const ValueType& type : types) attr.types.push_back(data_type(type));
  return attr;
}

// What receives n60 from another device is named after it: "n60/_12" in a session of its own,
// "n60_S12" behind a server. Which of n60's results it is does not stand in the name.
bool receives(const std::string& input, const std::string& wanted) {
  const std::string sender = wanted.substr(0, wanted.find(':'));
  if (!input.starts_with(sender)) return false;
  const std::string_view rest = std::string_view(input).substr(sender.size());
  if (!rest.starts_with("/_") && !rest.starts_with("_S")) return false;
  return rest.size() > 2 && rest.find_first_not_of("0123456789", 2) == rest.npos;
}

}  // namespace

Node read_node(std::span<const std::byte> bytes) {
  Node node;
  try {
    protozero::pbf_reader r(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          node.name = r.get_string();
          break;
        case 2:
          node.op = r.get_string();
          break;
        case 3:
          if (std::string input = r.get_string(); !input.starts_with('^'))
            node.inputs.push_back(std::move(input));
          break;
        case 5: {
          protozero::pbf_reader entry = r.get_message();
          std::string key;
          std::string value;
          while (entry.next()) {
            if (entry.tag() == 1)
              key = entry.get_string();
            else if (entry.tag() == 2)
              value = entry.get_string();
            else
              entry.skip();
          }
          node.attrs[std::move(key)] = std::move(value);
          break;
        }
        default:
          r.skip();
      }
    }
  } catch (const protozero::exception& error) {
    throw Error("E-tf-node", std::string("not a node: ") + error.what());
  }
  if (const std::size_t slash = node.name.rfind('/'); slash != node.name.npos) {
    node.scope = node.name.substr(0, slash + 1);
    node.name.erase(0, slash + 1);
  }
  return node;
}

void check_node(const Node& node, const graph::RawNode& wanted, std::span<const ValueType> operands,
                std::span<const ValueType> results, bool crosses) {
  const auto fail = [&](const std::string& what) {
    throw Error("E-tf-edited", what + " is not the program's", printable(node.scope + node.name));
  };
  if (node.op != wanted.op) fail("the operation");
  if (node.inputs.size() != wanted.inputs.size()) fail("the number of inputs");
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    const std::string expected = node.scope + wanted.inputs[i];
    if (node.inputs[i] == expected) continue;
    if (!crosses || !receives(node.inputs[i], expected))
      fail("input " + std::to_string(i) + " from " + printable(node.inputs[i]));
  }
  std::size_t known = 0;
  const auto same = [&](const std::string& key, const std::string& value) {
    const auto found = node.attrs.find(key);
    if (found == node.attrs.end() || found->second != value) fail("attribute " + key);
    ++known;
  };
  for (const auto& [key, attr] : wanted.attrs) same(key, graph::write_attr(attr));
  same("Tin", graph::write_attr(type_list(operands)));
  same("Tout", graph::write_attr(type_list(results)));
  for (const auto& [key, value] : node.attrs)
    if (key.starts_with('_') && wanted.find(key) == nullptr) ++known;
  if (known != node.attrs.size()) fail("an attribute that it has");
}

graph::RawFunction with_types(graph::RawFunction function, const Body& body) {
  std::vector<ValueType> types = body.arguments;
  for (std::size_t i = 0; i < body.ops.size(); ++i) {
    const Op& op = body.ops[i];
    std::vector<ValueType> operands;
    for (const std::uint32_t v : op.operands) operands.push_back(types[v]);
    function.nodes[i].attrs.emplace_back("Tin", type_list(operands));
    function.nodes[i].attrs.emplace_back("Tout", type_list(op.types));
    types.push_back(op.types[0]);
  }
  return function;
}

int data_type(const ValueType& type) noexcept {
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

std::vector<std::int64_t> tensor_shape(const ValueType& type) {
  if (type.kind == ValueType::Kind::bits) return {static_cast<std::int64_t>(type.bytes())};
  return type.shape;
}

}  // namespace mpcc::tf
