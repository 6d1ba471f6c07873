// Mutation of a program as a graph: what comes out is again in the one encoding that is written,
// with its types inferred anew, so that most of it passes the reader and reaches what lies behind.
#pragma once

#include <cstddef>
#include <cstdint>

namespace mpcc::fuzz {

// As LLVMFuzzerCustomMutator. One input in eight, and what is no GraphDef, is mutated as bytes.
std::size_t mutate_graph(std::uint8_t* data, std::size_t size, std::size_t max_size,
                         std::uint64_t seed);

}  // namespace mpcc::fuzz
