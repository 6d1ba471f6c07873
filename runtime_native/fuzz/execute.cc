// A program that is run: whatever the loader has accepted runs in memory at all endpoints and gives
// its outputs, or stops with an error. The last byte of the input decides what is given to it:
// inputs and weights of the right size, or one of another size.
#include <chrono>
#include <cstring>
#include <string>
#include <vector>

#include "base/checked.h"
#include "fuzz/common.h"
#include "fuzz/mutate_graph.h"
#include "graph/budget.h"
#include "graph/cluster.h"
#include "graph/plan.h"
#include "graph/program.h"
#include "testing/random.h"

namespace mpcc::fuzz {
namespace {

// So that one input takes milliseconds, and as a test of the limits: the plan knows beforehand what
// a program will need.
constexpr std::size_t kMostOps = 300;
constexpr graph::Limits kLimits = {.max_memory = std::size_t{24} << 20,
                                   .max_work = 1 << 21,
                                   .queue_bytes = 1 << 20,
                                   .ahead_bytes = 1 << 20};

void run(std::span<const std::byte> bytes, std::uint8_t choice) {
  const graph::Program program = graph::load_program(bytes);
  if (program.ops.size() > kMostOps) return;
  const graph::PlanOptions planning{.threads = 1, .limits = kLimits};
  const auto endpoints = graph::default_endpoints();
  for (std::uint32_t e = 0; e < endpoints.size(); ++e)
    (void)graph::make_plan(program, endpoints, e, planning);  // refuses what is too large
  testing::TestRandom random(choice);
  std::vector<std::pair<std::string, std::vector<std::byte>>> inputs;
  std::vector<std::pair<std::string, std::vector<std::byte>>> weights;
  for (const Op& op : program.ops) {
    if (op.code == OpCode::Input) {
      std::vector<float> values(op.types[0].lanes);
      for (float& x : values) x = static_cast<float>(random.below(2049)) / 1024.0F - 1.0F;
      std::vector<std::byte> raw(values.size() * sizeof(float));
      if (!raw.empty()) std::memcpy(raw.data(), values.data(), raw.size());
      if (choice % 16 == 1) raw = random.bytes(raw.size());  // not a number, infinite, ...
      inputs.emplace_back(op.attributes.text("name"), std::move(raw));
    } else if (op.code == OpCode::Weight) {
      weights.emplace_back(op.attributes.text("name"), random.bytes(op.types[0].bytes()));
    }
  }
  auto& damaged = choice % 2 == 0 ? inputs : weights;
  if (choice % 16 >= 14 && !damaged.empty())
    damaged[random.below(damaged.size())].second.resize(random.below(64));
  if (choice % 16 == 13 && !damaged.empty()) damaged.pop_back();
  const auto views = [](const auto& buffers) {
    graph::Tensors tensors;
    for (const auto& [name, buffer] : buffers)
      tensors.emplace(name, std::span<const std::byte>(buffer));
    return tensors;
  };
  net::TransportOptions transport;
  transport.deadline = std::chrono::seconds(20);
  transport.spin = {};
  graph::InMemoryCluster cluster(program, {.threads = 1, .limits = kLimits}, transport,
                                 net::FixedSeed{choice});
  const auto result = cluster.run(views(weights), {views(inputs)});
  MPCC_FUZZ_CHECK(result.outputs.size() == 1);
  for (const graph::Output& output : result.outputs[0]) {
    std::size_t elements = 1;
    for (const std::int64_t axis : output.shape) elements *= narrow<std::size_t>(axis);
    MPCC_FUZZ_CHECK(output.values.size() == elements);
  }
}

}  // namespace
}  // namespace mpcc::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size == 0) return 0;
  mpcc::fuzz::accepts(
      [&] { mpcc::fuzz::run(mpcc::fuzz::as_bytes(data, size - 1), data[size - 1]); });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  if (size == 0 || max_size < 2) return 0;
  const std::uint8_t choice = seed % 5 == 0 ? static_cast<std::uint8_t>(seed >> 8) : data[size - 1];
  const std::size_t n = mpcc::fuzz::mutate_graph(data, size - 1, max_size - 1, seed);
  data[n] = choice;
  return n + 1;
}
