// mpcc-party: one compute party as a process, without Python.
//
//   mpcc-party --artifact M.mpcc --config cluster.json --index 0
//
// Connects to its peers, runs the setup, serves runs until the owner ends the session, and prints
// one line of JSON with its statistics. On failure it prints one line to stderr that names the
// endpoint and the step, and exits with 1; a usage error exits with 2. It prints nothing secret and
// leaves no core file.
#include <sys/prctl.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdio>
#include <memory>
#include <string>

#include "base/error.h"
#include "graph/artifact.h"
#include "graph/session.h"

namespace {

// A core file or a debugger would show shares and keys.
void forbid_dumps() {
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  prctl(PR_SET_DUMPABLE, 0);
}

int serve(const std::string& artifact, const std::string& config_path, std::uint32_t index,
          int listen_fd) {
  const auto program = mpcc::graph::read_artifact(artifact).program;
  const auto config = mpcc::graph::read_config(config_path, index);
  std::shared_ptr<mpcc::net::Listener> listener;
  if (listen_fd >= 0)
    listener = std::make_shared<mpcc::net::Listener>(mpcc::net::Listener::adopt(listen_fd));
  mpcc::graph::Session session(program, config, index, listener);
  auto& engine = session.engine();
  engine.serve({});
  engine.close();
  std::printf("%s\n", engine.statistics().json().c_str());
  std::fflush(stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  forbid_dumps();
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("One compute party of a program made by mpcc.");
  std::string artifact;
  std::string config;
  std::uint32_t index = 0;
  int listen_fd = -1;
  app.add_option("--artifact", artifact, "the compiled program, M.mpcc")->required();
  app.add_option("--config", config, "who takes part: cluster.json")->required();
  app.add_option("--index", index, "this endpoint's position in the configuration")->required();
  app.add_option("--listen-fd", listen_fd,
                 "a socket that listens already, inherited; otherwise host:port is bound");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    const int code = app.exit(error);
    return code == 0 ? 0 : 2;
  }
  try {
    return serve(artifact, config, index, listen_fd);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpcc-party: %s\n", error.what());
    return 1;
  }
}
