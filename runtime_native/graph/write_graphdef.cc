#include <algorithm>
#include <protozero/pbf_writer.hpp>

#include "graph/graphdef.h"

namespace mpcc::graph {
namespace {

using protozero::pbf_writer;

// Strings and numbers of a message are left out when they are empty or zero; members of a one-of,
// items of lists and both fields of a map's entry never are.
void add_text(pbf_writer& w, protozero::pbf_tag_type tag, const std::string& text) {
  if (!text.empty()) w.add_string(tag, text);
}

void add_number(pbf_writer& w, protozero::pbf_tag_type tag, std::int64_t number) {
  if (number != 0) w.add_int64(tag, number);
}

// By key; of equal keys both stay, which the caller's reader has refused.
template <class T>
std::vector<const std::pair<std::string, T>*> sorted(
    const std::vector<std::pair<std::string, T>>& entries) {
  std::vector<const std::pair<std::string, T>*> order;
  for (const auto& entry : entries) order.push_back(&entry);
  std::ranges::sort(order, {},
                    [](const auto* entry) -> const std::string& { return entry->first; });
  return order;
}

}  // namespace

std::string write_attr(const RawAttr& attr) {
  std::string data;
  pbf_writer w(data);
  switch (attr.kind) {
    case RawAttr::Kind::none:
      break;
    case RawAttr::Kind::list: {
      std::string list;
      pbf_writer items(list);
      for (const std::string& text : attr.texts) items.add_bytes(2, text);
      items.add_packed_int64(3, attr.integers.begin(), attr.integers.end());
      items.add_packed_int64(6, attr.types.begin(), attr.types.end());
      w.add_message(1, list);
      break;
    }
    case RawAttr::Kind::text:
      w.add_bytes(2, attr.text);
      break;
    case RawAttr::Kind::integer:
      w.add_int64(3, attr.integer);
      break;
    case RawAttr::Kind::boolean:
      w.add_bool(5, attr.integer != 0);
      break;
    case RawAttr::Kind::type:
      w.add_int64(6, attr.integer);
      break;
    case RawAttr::Kind::function: {
      std::string function;
      pbf_writer named(function);
      add_text(named, 1, attr.text);
      w.add_message(10, function);
      break;
    }
  }
  return data;
}

namespace {

std::string write_node(const RawNode& node) {
  std::string data;
  pbf_writer w(data);
  add_text(w, 1, node.name);
  add_text(w, 2, node.op);
  for (const std::string& input : node.inputs) w.add_string(3, input);
  add_text(w, 4, node.device);
  for (const auto* attr : sorted(node.attrs)) {
    std::string entry;
    pbf_writer e(entry);
    e.add_string(1, attr->first);
    e.add_message(2, write_attr(attr->second));
    w.add_message(5, entry);
  }
  return data;
}

std::string write_function(const RawFunction& function, const std::string& name) {
  std::string signature;
  pbf_writer s(signature);
  add_text(s, 1, name);
  const auto arguments = [&](protozero::pbf_tag_type tag, const std::vector<RawFunction::Arg>& of) {
    for (const RawFunction::Arg& arg : of) {
      std::string field;
      pbf_writer a(field);
      add_text(a, 1, arg.name);
      add_number(a, 3, arg.type);
      s.add_message(tag, field);
    }
  };
  arguments(2, function.inputs);
  arguments(3, function.outputs);
  std::string data;
  pbf_writer w(data);
  w.add_message(1, signature);
  for (const RawNode& node : function.nodes) w.add_message(3, write_node(node));
  for (const auto* result : sorted(function.results)) {
    std::string entry;
    pbf_writer e(entry);
    e.add_string(1, result->first);
    e.add_string(2, result->second);
    w.add_message(4, entry);
  }
  return data;
}

}  // namespace

std::string write_body(const RawFunction& function) { return write_function(function, ""); }

std::string write_graphdef(const RawGraph& graph) {
  std::string data;
  pbf_writer w(data);
  for (const RawNode& node : graph.nodes) w.add_message(1, write_node(node));
  if (!graph.functions.empty()) {
    std::string library;
    pbf_writer l(library);
    for (const RawFunction& f : graph.functions) l.add_message(1, write_function(f, f.name));
    w.add_message(2, library);
  }
  std::string versions;
  pbf_writer v(versions);
  add_number(v, 1, graph.producer);
  add_number(v, 2, graph.min_consumer);
  w.add_message(4, versions);
  return data;
}

}  // namespace mpcc::graph
