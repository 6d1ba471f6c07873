#include "graph/cluster.h"

#include <exception>
#include <thread>

#include "base/error.h"

namespace mpcc::graph {

std::vector<net::EndpointInfo> default_endpoints() {
  return {{"P0", {"P0"}}, {"P1", {"P1"}}, {"P2", {"P2"}}, {"owner", {"client", "model"}}};
}

InMemoryCluster::InMemoryCluster(const Program& program, EngineOptions engine,
                                 net::TransportOptions transport,
                                 std::optional<net::FixedSeed> seed) {
  transport.step_name = step_names(program);
  engine.deadline = transport.deadline;
  // Refused here, before anything is made for any of the endpoints.
  for (std::uint32_t e = 0; e < default_endpoints().size(); ++e)
    (void)make_plan(program, default_endpoints(), e,
                    {.threads = engine.threads, .limits = engine.limits});
  network_ = seed ? net::make_in_memory_network(default_endpoints(), *seed, transport)
                  : net::make_in_memory_network(default_endpoints(), transport);
  for (auto& t : network_)
    engines_.emplace_back(
        new Engine(program, *t, engine, seed ? testing::seeded_keys(seed->value) : nullptr));
}

InMemoryCluster::~InMemoryCluster() = default;

ClusterResult InMemoryCluster::run(const Tensors& weights, const std::vector<Tensors>& inputs) {
  ClusterResult result;
  std::vector<std::exception_ptr> errors(engines_.size());
  std::vector<std::thread> threads;
  const auto body = [&](std::size_t i) {
    Engine& engine = *engines_[i];
    try {
      if (engine.is_driver()) {
        engine.setup(weights);
        for (const Tensors& x : inputs) result.outputs.push_back(engine.run(x));
      } else {
        engine.serve(weights);
      }
      engine.close();
    } catch (...) {
      errors[i] = std::current_exception();
    }
  };
  std::size_t driver = 0;
  for (std::size_t i = 0; i < engines_.size(); ++i) {
    if (engines_[i]->is_driver())
      driver = i;
    else
      threads.emplace_back(body, i);
  }
  body(driver);
  for (auto& t : threads) t.join();
  // An endpoint that was told of another's failure says so; the cause is the more useful error.
  std::exception_ptr first = errors[driver];
  for (const auto& e : errors) {
    if (!e) continue;
    if (!first) first = e;
    try {
      std::rethrow_exception(e);
    } catch (const Error& error) {
      if (!error.code().starts_with("E-net-")) first = e;
    } catch (...) {
    }
  }
  if (first) std::rethrow_exception(first);
  result.statistics = engines_[driver]->statistics();
  return result;
}

}  // namespace mpcc::graph
