// mpcc-party-recording: mpcc-party that also tells which keystreams it has, for tests that compare
// those of different runs and sessions (tests/runtime/test_keys.py). Built with the tests, never
// installed. What it prints are digests of streams that the program does not draw.
//
//   {"run": 1, "holders": "P0+P1", "digest": "…"}    key of two endpoints, from their TLS exporter
//   {"run": 1, "peer": 3, "seeds": ["…", …]}         key seeds received from a third
#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <string>

#include "base/error.h"
#include "graph/artifact.h"
#include "graph/session.h"
#include "net/keys.h"
#include "prg/aes.h"

namespace {

using namespace mpcc;

constexpr std::uint64_t kUndrawn = ~std::uint64_t{0};  // stream ids of programs are positive

std::string hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (const std::byte b : bytes) {
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

// Passes everything on to a transport and prints a line for every key that comes out of it.
class Recording final : public net::Transport {
 public:
  explicit Recording(std::unique_ptr<net::Transport> inner) : inner_(std::move(inner)) {}

  net::PrgKey derive_key(net::PeerIndex peer, std::string_view holders, net::RunId run,
                         const net::ProgramHash& program) override {
    const net::PrgKey key = inner_->derive_key(peer, holders, run, program);
    std::array<std::byte, 64> stream{};
    prg::Aes128(key).fill(kUndrawn, 0, stream);
    std::printf("{\"run\": %llu, \"holders\": \"%.*s\", \"digest\": \"%s\"}\n",
                static_cast<unsigned long long>(run), static_cast<int>(holders.size()),
                holders.data(), hex(net::sha256(stream)).c_str());
    std::fflush(stdout);
    return key;
  }

  SecretBuffer receive_control(net::PeerIndex peer, net::FrameKind kind, net::RunId run,
                               std::optional<net::Duration> deadline) override {
    SecretBuffer bytes = inner_->receive_control(peer, kind, run, deadline);
    if (kind != net::FrameKind::key_seed) return bytes;
    std::string list;
    for (std::size_t at = 0; at + 32 <= bytes.size(); at += 32)
      list += (at == 0 ? "\"" : ", \"") + hex(net::sha256(bytes.bytes().subspan(at, 32))) + "\"";
    std::printf("{\"run\": %llu, \"peer\": %u, \"seeds\": [%s]}\n",
                static_cast<unsigned long long>(run), peer, list.c_str());
    std::fflush(stdout);
    return bytes;
  }

  net::PeerIndex self() const override { return inner_->self(); }
  const std::vector<net::EndpointInfo>& endpoints() const override { return inner_->endpoints(); }
  void expect(net::RunId run, std::span<const net::Expected> table,
              std::uint64_t most_steps) override {
    inner_->expect(run, table, most_steps);
  }
  void send(net::PeerIndex peer, const net::MessageHeader& header, net::Payload payload) override {
    inner_->send(peer, header, std::move(payload));
  }
  net::Received receive(net::PeerIndex peer, net::RunId run, std::uint32_t message,
                        std::uint64_t bytes, std::optional<net::Duration> deadline) override {
    return inner_->receive(peer, run, message, bytes, deadline);
  }
  bool arrived(net::PeerIndex peer, net::RunId run, std::uint32_t message) override {
    return inner_->arrived(peer, run, message);
  }
  void wait_ready(net::RunId run, std::optional<net::Duration> deadline) override {
    inner_->wait_ready(run, deadline);
  }
  void send_control(net::PeerIndex peer, net::FrameKind kind, net::RunId run,
                    std::span<const std::byte> payload) override {
    inner_->send_control(peer, kind, run, payload);
  }
  void send_alive(net::PeerIndex peer, net::RunId run, std::uint64_t steps) override {
    inner_->send_alive(peer, run, steps);
  }
  void flush() override { inner_->flush(); }
  void check() const override { inner_->check(); }
  void abort(std::string_view step, std::string_view reason) override {
    inner_->abort(step, reason);
  }
  void close(net::Duration wait) override { inner_->close(wait); }
  net::PeerStatistics statistics(net::PeerIndex peer) const override {
    return inner_->statistics(peer);
  }
  SecretBuffer export_key(net::PeerIndex peer, const std::string& label,
                          std::span<const std::byte> context) override {
    return inner_->export_key(peer, label, context);
  }

 private:
  std::unique_ptr<net::Transport> inner_;
};

}  // namespace

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  CLI::App app("A compute party that tells its keystreams' digests, for tests.");
  std::string artifact;
  std::string path;
  std::uint32_t index = 0;
  int listen_fd = -1;
  app.add_option("--artifact", artifact)->required();
  app.add_option("--config", path)->required();
  app.add_option("--index", index)->required();
  app.add_option("--listen-fd", listen_fd)->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  try {
    const auto program = graph::load_program(graph::read_artifact(artifact).program);
    const auto config = graph::read_config(path, index);
    // As graph::Session does, with the recorder in between.
    net::TransportOptions options;
    options.deadline = config.deadline;
    options.step_name = graph::step_names(program);
    const net::TlsConfig tls{
        .self = index,
        .endpoints = config.endpoints,
        .ca = net::Pem::file(config.ca),
        .certificate = net::Pem::file(config.certificate),
        .private_key = net::Pem::file(config.private_key),
        .program = program.hash,
        .options = options,
        .connect_deadline = config.connect_deadline,
        .listener = std::make_shared<net::Listener>(net::Listener::adopt(listen_fd))};
    Recording transport(net::connect_tls(tls));
    graph::Engine engine(program, transport,
                         {.threads = config.threads,
                          .deadline = config.deadline,
                          .idle = config.idle,
                          .limits = config.limits});
    engine.serve({});
    engine.close();
    std::printf("%s\n", engine.statistics().json().c_str());
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "mpcc-party: %s\n", error.what());
    return 1;
  }
}
