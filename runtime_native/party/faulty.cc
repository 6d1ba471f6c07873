// mpcc-party-faulty: mpcc-party with one fault inside its TLS connection to one peer, for tests
// with real processes (tests/faults). It is built with the tests and never installed.
//
//   mpcc-party-faulty --artifact M.mpcc --config cluster.json --index 0
//                     --peer 2 --kind corrupt --message 3 --offset 64
//
// The fault is one of net/faulty.h, applied to the data frame number `message` that this party
// sends to `peer`. Before it is applied nothing differs from mpcc-party; so what the peers see is a
// peer with a bug, or one whose memory has gone bad.
#include "net/faulty.h"

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <map>
#include <memory>
#include <string>
#include <utility>

#include "base/error.h"
#include "graph/artifact.h"
#include "graph/session.h"

namespace {

using mpcc::net::Fault;
using mpcc::net::FaultKind;
using mpcc::net::FrameHeader;

const std::map<std::string, FaultKind> kKinds = {
    {"drop", FaultKind::drop},         {"stall", FaultKind::stall},
    {"delay", FaultKind::delay},       {"corrupt", FaultKind::corrupt},
    {"truncate", FaultKind::truncate}, {"duplicate", FaultKind::duplicate},
    {"replay", FaultKind::replay},     {"reorder", FaultKind::reorder},
};

// Header fields that a lying peer changes; the checksum of the header is right again afterwards.
const std::map<std::string, void (*)(FrameHeader&)> kLies = {
    {"lie-run", [](FrameHeader& h) { ++h.run; }},
    {"lie-depth", [](FrameHeader& h) { ++h.depth; }},
    {"lie-size", [](FrameHeader& h) { h.payload_bytes += 8; }},
    {"lie-session", [](FrameHeader& h) { h.session ^= 1; }},
    {"lie-message", [](FrameHeader& h) { h.message ^= 1; }},
};

// As graph::Session makes them, plus the decorator.
mpcc::net::TlsConfig settings(const mpcc::graph::ClusterConfig& config, std::uint32_t index,
                              const mpcc::graph::Program& program,
                              std::shared_ptr<mpcc::net::Listener> listener,
                              mpcc::net::LinkDecorator decorate) {
  mpcc::net::Pem ca = mpcc::net::Pem::file(config.ca);
  mpcc::net::Pem certificate = mpcc::net::Pem::file(config.certificate);
  mpcc::net::Pem private_key = mpcc::net::Pem::file(config.private_key);
  mpcc::net::TransportOptions options;
  options.deadline = config.deadline;
  options.step_name = mpcc::graph::step_names(program);
  options.decorate = std::move(decorate);
  return {.self = index,
          .endpoints = config.endpoints,
          .ca = std::move(ca),
          .certificate = std::move(certificate),
          .private_key = std::move(private_key),
          .program = program.hash,
          .options = std::move(options),
          .connect_deadline = config.connect_deadline,
          .listener = std::move(listener)};
}

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("A compute party with one fault, for tests.");
  std::string artifact;
  std::string path;
  std::string kind;
  std::uint32_t index = 0;
  std::uint32_t peer = 0;
  int listen_fd = -1;
  double seconds = 0;
  Fault fault;
  app.add_option("--artifact", artifact)->required();
  app.add_option("--config", path)->required();
  app.add_option("--index", index)->required();
  app.add_option("--listen-fd", listen_fd)->required();
  app.add_option("--peer", peer, "the endpoint that gets the spoilt frame")->required();
  app.add_option("--kind", kind, "drop, stall, delay, ..., lie-run, ...")->required();
  app.add_option("--message", fault.message, "number of the data frame to that peer")->required();
  app.add_option("--offset", fault.offset, "corrupt: byte of the frame; truncate: bytes left out");
  app.add_option("--seconds", seconds, "delay");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    using namespace mpcc;
    if (const auto lie = kLies.find(kind); lie != kLies.end()) {
      fault.kind = FaultKind::rewrite;
      fault.rewrite = lie->second;
    } else if (const auto known = kKinds.find(kind); known != kKinds.end()) {
      fault.kind = known->second;
    } else {
      throw Error("E-usage", "no fault of this kind", kind);
    }
    fault.duration =
        std::chrono::duration_cast<net::Duration>(std::chrono::duration<double>(seconds));
    const auto program = graph::load_program(graph::read_artifact(artifact).program);
    const auto config = graph::read_config(path, index);
    auto listener = std::make_shared<net::Listener>(net::Listener::adopt(listen_fd));
    const auto tls = settings(config, index, program, std::move(listener),
                              net::faulty(index, peer, std::move(fault)));
    const auto transport = net::connect_tls(tls);
    graph::EngineOptions options;
    options.threads = config.threads;
    options.deadline = config.deadline;
    options.idle = config.idle;
    graph::Engine engine(program, *transport, options);
    engine.serve({});
    engine.close();
    std::printf("%s\n", engine.statistics().json().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpcc-party: %s\n", error.what());
    return 1;
  }
}
