// A node as TensorFlow hands it to a kernel, and its comparison with the program's.
//
// TensorFlow adds attributes of its own (their names begin with "_"), puts a scope before the name,
// and in a partition of the graph an input that crosses devices has the name of a receiving node.
// Everything else must be the program's, byte for byte.
#pragma once

#include <cstddef>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "graph/graphdef.h"
#include "graph/program.h"

namespace mpcc::tf {

struct Node {
  std::string scope;  // "model/" of "model/n17"; may be empty
  std::string name;   // "n17"
  std::string op;
  std::vector<std::string> inputs;           // without control inputs
  std::map<std::string, std::string> attrs;  // encoded values
};

// Reads a serialised NodeDef. Throws Error("E-tf-node").
Node read_node(std::span<const std::byte> bytes);

// Throws Error("E-tf-edited"), naming the node and what differs, unless `node` is the node
// `wanted` of a program with its types as TensorFlow needs them ("Tin", "Tout").
// `crosses`: its input may come from another device.
void check_node(const Node& node, const graph::RawNode& wanted, std::span<const ValueType> operands,
                std::span<const ValueType> results, bool crosses);

// The function of a fused body as TensorFlow has it: with the types of its nodes.
graph::RawFunction with_types(graph::RawFunction function, const Body& body);

// TF_DataType of a value's tensor: u64, u32 or u8 words, f32.
int data_type(const ValueType& type) noexcept;
// Its shape: bits are a flat tensor of bytes.
std::vector<std::int64_t> tensor_shape(const ValueType& type);

}  // namespace mpcc::tf
