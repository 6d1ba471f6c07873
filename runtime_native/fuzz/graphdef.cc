// A program's bytes, through the reader, the loader and every endpoint's plan; nothing is run.
#include "graph/graphdef.h"

#include <algorithm>
#include <vector>

#include "fuzz/common.h"
#include "fuzz/mutate_graph.h"
#include "graph/cluster.h"
#include "graph/plan.h"
#include "graph/program.h"

namespace mpcc::fuzz {
namespace {

// Values that are alive at the same time do not overlap, and none lies outside the arena.
void check_arena(const graph::Program& program, const graph::Plan& plan,
                 const graph::PhasePlan& phase) {
  struct Interval {
    std::size_t begin;
    std::size_t end;
    std::uint32_t value;
  };
  std::vector<Interval> alive;
  for (const graph::Action& action : phase.actions) {
    MPCC_FUZZ_CHECK(action.op < program.ops.size());
    if (action.kind == graph::Action::Kind::compute)
      for (const std::uint32_t v : program.ops[action.op].results) {
        if (plan.home[v] != graph::Home::arena) continue;
        const Interval added{plan.offset[v], plan.offset[v] + program.values[v].bytes(), v};
        MPCC_FUZZ_CHECK(added.end <= phase.arena_bytes);
        for (const Interval& other : alive)
          MPCC_FUZZ_CHECK(added.end <= other.begin || other.end <= added.begin);
        alive.push_back(added);
      }
    for (const std::uint32_t v : action.ends)
      std::erase_if(alive, [v](const Interval& i) { return i.value == v; });
  }
}

void check(std::span<const std::byte> bytes) {
  const graph::Program program = graph::load_program(bytes);
  // What has been loaded is what its own text says: reading and writing are inverse.
  const std::string written = graph::write_graphdef(graph::read_graphdef(bytes));
  MPCC_FUZZ_CHECK(std::ranges::equal(std::as_bytes(std::span(written)), bytes));
  std::size_t ordered = 0;
  for (const auto& order : program.order) ordered += order.size();
  MPCC_FUZZ_CHECK(ordered == program.ops.size());
  for (std::uint32_t i = 0; i < program.ops.size(); ++i) (void)program.describe(i);
  const auto endpoints = graph::default_endpoints();
  for (std::uint32_t e = 0; e < endpoints.size(); ++e) {
    const graph::Plan plan = graph::make_plan(program, endpoints, e);
    // Only small programs: the check takes time that grows with the square of what is alive.
    if (program.ops.size() > 500) continue;
    check_arena(program, plan, plan.setup);
    check_arena(program, plan, plan.online);
  }
}

}  // namespace
}  // namespace mpcc::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mpcc::fuzz::accepts([&] { mpcc::fuzz::check(mpcc::fuzz::as_bytes(data, size)); });
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size,
                                               std::size_t max_size, unsigned seed) {
  return mpcc::fuzz::mutate_graph(data, size, max_size, seed);
}
