// One endpoint of a session over TLS: configuration, connection and engine in one object.
//
// The configuration is a JSON file:
//
//   {"endpoints": [{"name": "P0", "host": "10.0.0.1", "port": 7000, "places": ["P0"]}, ...,
//                  {"name": "owner", "host": "", "port": 0, "places": ["client", "model"]}],
//    "ca": "ca.pem", "cert": "P0.pem", "key": "P0.key",
//    "deadline_s": 10, "connect_deadline_s": 10, "idle_s": 86400, "network": "none", "threads": 1}
//
// Names are what certificates must say (subjectAltName DNS). Paths are relative to the file. An
// endpoint's object may hold "cert" and "key" of its own, so that one file can serve a cluster on
// one machine. "network" slows every link down to that of "lan" or "wan". The last five may be left
// out.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "graph/engine.h"
#include "net/tls_transport.h"

namespace mpcc::graph {

struct ClusterConfig {
  std::vector<net::TlsEndpoint> endpoints;
  std::string ca;
  std::string certificate;
  std::string private_key;
  net::Duration deadline = std::chrono::seconds(10);
  net::Duration connect_deadline = std::chrono::seconds(10);
  net::Duration idle = std::chrono::hours(24);
  std::string network = "none";
  int threads = 1;
};

// The configuration as endpoint `index` reads it. Throws Error("E-config").
ClusterConfig read_config(const std::string& path, std::uint32_t index);

class Session {
 public:
  // Loads the program, checks and plans it, then connects to all peers.
  Session(std::span<const std::byte> program, const ClusterConfig& config, std::uint32_t index,
          std::shared_ptr<net::Listener> listener = nullptr);

  Engine& engine() noexcept { return *engine_; }
  const Program& program() const noexcept { return *program_; }
  // Ends the session from another thread; whoever is inside the engine gets an error.
  void interrupt(const std::string& reason);

 private:
  std::unique_ptr<Program> program_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<Engine> engine_;
};

}  // namespace mpcc::graph
