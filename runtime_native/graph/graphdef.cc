#include "graph/graphdef.h"

#include <algorithm>
#include <protozero/pbf_reader.hpp>

#include "base/error.h"
#include "kernels/limits.h"

namespace mpcc::graph {
namespace {

using protozero::pbf_reader;
using protozero::pbf_wire_type;

[[noreturn]] void bad(const std::string& what) { throw Error("E-graph", what, "program"); }

void limit(std::size_t n, std::size_t most, const char* what) {
  if (n > most)
    throw Error(
        "E-graph-limit",
        std::string(what) + ": " + std::to_string(n) + ", allowed are " + std::to_string(most),
        "program");
}

std::string text_of(pbf_reader& r) {
  if (r.wire_type() != pbf_wire_type::length_delimited) bad("a string is expected");
  const auto view = r.get_view();
  limit(view.size(), kMaxAttrBytes, "bytes of a string");
  return {view.data(), view.size()};
}

pbf_reader message_of(pbf_reader& r) {
  if (r.wire_type() != pbf_wire_type::length_delimited) bad("a message is expected");
  return r.get_message();
}

std::int64_t varint_of(pbf_reader& r) {
  if (r.wire_type() != pbf_wire_type::varint) bad("a number is expected");
  return r.get_int64();
}

[[noreturn]] void unknown(const char* message, const pbf_reader& r) {
  bad(std::string("unknown field ") + std::to_string(r.tag()) + " of " + message);
}

// What has been read of a program: mpcc/emit/items.py counts the same.
class Items {
 public:
  void add(std::size_t n = 1) {
    count_ += n;
    if (count_ > kMaxItems)
      throw Error("E-graph-limit",
                  "items of the program: more than the " + std::to_string(kMaxItems) + " allowed",
                  "program");
  }
  std::size_t count() const noexcept { return count_; }

 private:
  std::size_t count_ = 0;
};

RawAttr read_attr(pbf_reader r, Items& items) {
  RawAttr attr;
  const auto set = [&](RawAttr::Kind kind) {
    if (attr.kind != RawAttr::Kind::none) bad("an attribute has two values");
    attr.kind = kind;
  };
  while (r.next()) {
    switch (r.tag()) {
      case 1: {  // list
        set(RawAttr::Kind::list);
        pbf_reader list = message_of(r);
        while (list.next()) {
          if (list.tag() == 2) {
            items.add();
            attr.texts.push_back(text_of(list));
          } else if (list.tag() == 3 && list.wire_type() == pbf_wire_type::length_delimited) {
            for (const std::int64_t v : list.get_packed_int64()) {
              items.add();
              attr.integers.push_back(v);
              limit(attr.integers.size(), kMaxList, "items of a list");
            }
          } else if (list.tag() == 3) {
            items.add();
            attr.integers.push_back(varint_of(list));
          } else if (list.tag() == 6 && list.wire_type() == pbf_wire_type::length_delimited) {
            for (const std::int64_t v : list.get_packed_int64()) {
              items.add();
              attr.types.push_back(v);
              limit(attr.types.size(), kMaxList, "items of a list");
            }
          } else {
            unknown("a list", list);
          }
          limit(attr.integers.size() + attr.texts.size(), kMaxList, "items of a list");
        }
        break;
      }
      case 2:
        set(RawAttr::Kind::text);
        attr.text = text_of(r);
        if (attr.text.starts_with('['))  // a nested attribute
          items.add(static_cast<std::size_t>(
              std::ranges::count_if(attr.text, [](char c) { return c == ',' || c == '['; })));
        break;
      case 3:
        set(RawAttr::Kind::integer);
        attr.integer = varint_of(r);
        break;
      case 5:
        set(RawAttr::Kind::boolean);
        attr.integer = varint_of(r) != 0 ? 1 : 0;
        break;
      case 6:
        set(RawAttr::Kind::type);
        attr.integer = varint_of(r);
        break;
      case 10: {
        set(RawAttr::Kind::function);
        pbf_reader function = message_of(r);
        while (function.next()) {
          if (function.tag() != 1) unknown("a function name", function);
          attr.text = text_of(function);
        }
        break;
      }
      default:
        unknown("an attribute", r);
    }
  }
  return attr;
}

// map<string, AttrValue> entry
std::pair<std::string, RawAttr> read_attr_entry(pbf_reader r, Items& items) {
  std::pair<std::string, RawAttr> entry;
  while (r.next()) {
    if (r.tag() == 1)
      entry.first = text_of(r);
    else if (r.tag() == 2)
      entry.second = read_attr(message_of(r), items);
    else
      unknown("an attribute entry", r);
  }
  return entry;
}

RawNode read_node(pbf_reader r, Items& items) {
  RawNode node;
  items.add();
  while (r.next()) {
    switch (r.tag()) {
      case 1:
        node.name = text_of(r);
        break;
      case 2:
        node.op = text_of(r);
        break;
      case 3:
        items.add();
        node.inputs.push_back(text_of(r));
        limit(node.inputs.size(), kMaxList, "inputs of a node");
        break;
      case 4:
        node.device = text_of(r);
        break;
      case 5: {
        items.add();
        auto entry = read_attr_entry(message_of(r), items);
        if (node.find(entry.first) != nullptr) bad("an attribute is given twice");
        node.attrs.push_back(std::move(entry));
        limit(node.attrs.size(), kMaxNodeAttrs, "attributes of a node");
        break;
      }
      default:
        unknown("a node", r);
    }
  }
  return node;
}

RawFunction::Arg read_arg(pbf_reader r) {
  RawFunction::Arg arg;
  while (r.next()) {
    if (r.tag() == 1)
      arg.name = text_of(r);
    else if (r.tag() == 3)
      arg.type = varint_of(r);
    else
      unknown("a function's argument", r);
  }
  return arg;
}

RawFunction read_function(pbf_reader r, Items& items) {
  RawFunction function;
  const std::size_t before = items.count();
  while (r.next()) {
    switch (r.tag()) {
      case 1: {
        pbf_reader signature = message_of(r);
        while (signature.next()) {
          if (signature.tag() == 2 || signature.tag() == 3) items.add();
          if (signature.tag() == 1)
            function.name = text_of(signature);
          else if (signature.tag() == 2)
            function.inputs.push_back(read_arg(message_of(signature)));
          else if (signature.tag() == 3)
            function.outputs.push_back(read_arg(message_of(signature)));
          else
            unknown("a signature", signature);
          limit(function.inputs.size() + function.outputs.size(), 2 * kMaxList, "arguments");
        }
        break;
      }
      case 3:
        function.nodes.push_back(read_node(message_of(r), items));
        limit(function.nodes.size(), kMaxOps, "nodes of a function");
        break;
      case 4: {
        items.add();
        pbf_reader entry = message_of(r);
        std::pair<std::string, std::string> result;
        while (entry.next()) {
          if (entry.tag() == 1)
            result.first = text_of(entry);
          else if (entry.tag() == 2)
            result.second = text_of(entry);
          else
            unknown("a function's result", entry);
        }
        function.results.push_back(std::move(result));
        limit(function.results.size(), kMaxList, "results of a function");
        break;
      }
      default:
        unknown("a function", r);
    }
  }
  function.items = items.count() - before;
  return function;
}

}  // namespace

const RawAttr* RawNode::find(std::string_view key) const noexcept {
  for (const auto& [name_, attr] : attrs)
    if (name_ == key) return &attr;
  return nullptr;
}

RawGraph read_graphdef(std::span<const std::byte> bytes) {
  limit(bytes.size(), kMaxProgramBytes, "bytes of a program");
  RawGraph graph;
  Items items;
  try {
    pbf_reader r(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    while (r.next()) {
      switch (r.tag()) {
        case 1:
          graph.nodes.push_back(read_node(message_of(r), items));
          limit(graph.nodes.size(), kMaxOps + 1, "nodes");
          break;
        case 2: {
          pbf_reader library = message_of(r);
          while (library.next()) {
            if (library.tag() != 1) unknown("the library", library);
            items.add();
            graph.functions.push_back(read_function(message_of(library), items));
            limit(graph.functions.size(), kMaxOps, "functions");
          }
          break;
        }
        case 4: {
          pbf_reader versions = message_of(r);
          while (versions.next()) {
            if (versions.tag() == 1)
              graph.producer = varint_of(versions);
            else if (versions.tag() == 2)
              graph.min_consumer = varint_of(versions);
            else
              unknown("the versions", versions);
          }
          break;
        }
        default:
          unknown("a graph", r);
      }
    }
  } catch (const protozero::exception& error) {
    bad(std::string("not a GraphDef: ") + error.what());
  }
  graph.items = items.count();
  return graph;
}

}  // namespace mpcc::graph
