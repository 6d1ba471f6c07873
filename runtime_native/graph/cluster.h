// All endpoints of a program in one process over memory, one thread each: for tests and for trying
// a program without a network. The only place where keys may follow from a seed.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "graph/engine.h"
#include "net/memory.h"

namespace mpcc::graph {

// P0, P1, P2 and one owner endpoint with client and model: the shape of `mpcc run`.
std::vector<net::EndpointInfo> default_endpoints();

struct ClusterResult {
  std::vector<std::vector<Output>> outputs;  // per run
  SessionStatistics statistics;              // the driver's, with all links merged
};

class InMemoryCluster {
 public:
  // Without a seed, keys are random. With one, they are those of testing::seeded_keys and nothing
  // is secret.
  InMemoryCluster(const Program& program, EngineOptions engine, net::TransportOptions transport,
                  std::optional<net::FixedSeed> seed);
  ~InMemoryCluster();

  // Setup and one run per element of `inputs`. Throws the driver's error, or a party's if the
  // driver had none.
  ClusterResult run(const Tensors& weights, const std::vector<Tensors>& inputs);

 private:
  std::vector<std::unique_ptr<net::Transport>> network_;
  std::vector<std::unique_ptr<Engine>> engines_;
};

}  // namespace mpcc::graph
