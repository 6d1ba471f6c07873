// One endpoint of a session over TLS: configuration, connection and engine in one object.
//
// The configuration is a JSON file:
//
//   {"endpoints": [{"name": "P0", "host": "10.0.0.1", "port": 7000, "places": ["P0"]}, ...,
//                  {"name": "owner", "host": "", "port": 0, "places": ["client", "model"]}],
//    "ca": "ca.pem", "cert": "P0.pem", "key": "P0.key",
//    "deadline_s": 10, "connect_deadline_s": 10, "idle_s": 86400, "run_limit_s": 3600,
//    "network": "none", "threads": 1, "max_memory": 2147483648, "max_work": 10000000000000,
//    "least_rate": 65536}
//
// Names are what certificates must say (subjectAltName DNS). Paths are relative to the file. An
// endpoint's object may hold "cert" and "key" of its own, so that one file can serve a cluster on
// one machine, and "trace", a file that it writes at the end of the session (trace.h). "network"
// slows every link down to that of "lan" or "wan". "max_memory" (bytes) and "max_work"
// (multiply-adds of a run) are the limits of budget.h: a program that needs more is refused before
// anything is allocated. A peer that is waited for must send "least_rate" bytes per second, and a
// run that lasts longer than "run_limit_s" ends with an error. Everything from "deadline_s" on may
// be left out.
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
  net::Duration run_limit = std::chrono::hours(1);
  std::string network = "none";
  int threads = 1;
  std::uint64_t least_rate = std::uint64_t{64} << 10;
  Limits limits;
  std::string trace;  // empty: none
};

// The configuration as endpoint `index` reads it. Throws Error("E-config").
ClusterConfig read_config(const std::string& path, std::uint32_t index);

// An error as one line of JSON for programs: {"error": {"code": "E-net-timeout", "message": ...,
// "where": ..., "reporter": "P0", "party": "P1", "step": "run 3, message 17 (conv_3/open)"}}. The
// party is the endpoint that the failure is about; the reporter's own name where nobody is known.
std::string error_line(const Error& error, const std::string& reporter);

// What endpoint `index` does of a program. Throws as make_plan().
Plan plan_of(const Program& program, const ClusterConfig& config, std::uint32_t index);
// Its connections to all peers. `program` outlives them. Throws as net::connect_tls().
std::unique_ptr<net::Transport> connect(const Program& program, const ClusterConfig& config,
                                        std::uint32_t index,
                                        std::shared_ptr<net::Listener> listener);

class Session {
 public:
  // Loads the program, checks and plans it, then connects to all peers.
  Session(std::span<const std::byte> program, const ClusterConfig& config, std::uint32_t index,
          std::shared_ptr<net::Listener> listener = nullptr);
  // Writes the trace, if one is wanted; what fails then is not reported.
  ~Session();
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  Engine& engine() noexcept { return *engine_; }
  const Program& program() const noexcept { return *program_; }
  // Ends the session from another thread; whoever is inside the engine gets an error.
  void interrupt(const std::string& reason);

 private:
  std::unique_ptr<Program> program_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<Engine> engine_;
  std::string trace_;
};

}  // namespace mpcc::graph
