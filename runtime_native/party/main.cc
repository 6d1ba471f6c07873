// mpcc-party: one compute party as a process, without Python.
//
//   mpcc-party --artifact M.mpcc --config cluster.json --index 0
//
// Connects to its peers, runs the setup, serves runs until the owner ends the session, and prints
// one line of JSON with its statistics. On failure it prints two lines to stderr, a sentence and
// the same as JSON (error_line() in graph/session.h), which name the endpoint and the step, and
// exits with 1; a usage error exits with 2. It prints nothing secret and leaves no core file.
// With --mlock its memory stays out of swap.
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

#include "base/error.h"
#include "base/process.h"
#include "graph/artifact.h"
#include "graph/session.h"

namespace {

// As given; empty where the configuration decides.
struct Limits {
  std::string memory;
  std::string work;
};

int complain(const mpcc::Error& error, const std::string& name) {
  std::fprintf(stderr, "mpcc-party: %s\n%s\n", error.what(),
               mpcc::graph::error_line(error, name).c_str());
  return 1;
}

int serve(const std::string& artifact, const std::string& config_path, std::uint32_t index,
          int listen_fd, const Limits& limits, bool locked, std::string& name) {
  // A core file or a debugger would show shares and keys.
  mpcc::forbid_dumps();
  if (locked) mpcc::lock_memory();
  const auto program = mpcc::graph::read_artifact(artifact).program;
  auto config = mpcc::graph::read_config(config_path, index);
  name = config.endpoints.at(index).name;
  if (!limits.memory.empty()) config.limits.max_memory = mpcc::graph::parse_bytes(limits.memory);
  if (!limits.work.empty()) config.limits.max_work = mpcc::graph::parse_work(limits.work);
  std::shared_ptr<mpcc::net::Listener> listener;
  if (listen_fd >= 0)
    listener = std::make_shared<mpcc::net::Listener>(mpcc::net::Listener::adopt(listen_fd));
  mpcc::graph::Session session(program, config, index, listener);
  auto& engine = session.engine();
  // Known only now, and still before the first share arrives.
  if (locked) mpcc::require_lockable(engine.plan().peak_bytes());
  engine.serve({});
  engine.close();
  std::printf("%s\n", engine.statistics().json().c_str());
  std::fflush(stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("One compute party of a program made by mpcc.");
  std::string artifact;
  std::string config;
  std::uint32_t index = 0;
  int listen_fd = -1;
  bool locked = false;
  std::string name;
  app.add_option("--artifact", artifact, "the compiled program, M.mpcc")->required();
  app.add_option("--config", config, "who takes part: cluster.json")->required();
  app.add_option("--index", index, "this endpoint's position in the configuration")->required();
  Limits limits;
  app.add_option("--max-memory", limits.memory,
                 "refuse a program that needs more, such as 2GiB; default: max_memory of the "
                 "configuration, or three quarters of what this process may have");
  app.add_option("--max-work", limits.work,
                 "refuse a program with more multiply-adds in a run; default: max_work of the "
                 "configuration, or 1e13");
  app.add_option("--listen-fd", listen_fd,
                 "a socket that listens already, inherited; otherwise host:port is bound");
  app.add_flag("--mlock", locked, "keep all memory out of swap; needs a large RLIMIT_MEMLOCK");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  // Until the configuration says more.
  name = "endpoint " + std::to_string(index);
  try {
    return serve(artifact, config, index, listen_fd, limits, locked, name);
  } catch (const mpcc::Error& error) {
    return complain(error, name);
  } catch (const std::exception& error) {
    return complain(mpcc::Error("E-engine", error.what()), name);
  }
}
