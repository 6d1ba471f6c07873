#include "tf/channel.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "net/tls_transport.h"

namespace mpcc::tf {

Channel::Channel(std::shared_ptr<const graph::Program> program, const std::string& config,
                 std::uint32_t index, int listen_fd, Use use)
    : program_(std::move(program)),
      use_(use),
      config_(graph::read_config(config, index)),
      plan_(graph::plan_of(*program_, config_, index)),
      transport_(graph::connect(
          *program_, config_, index,
          listen_fd < 0 ? nullptr
                        : std::make_shared<net::Listener>(net::Listener::adopt(listen_fd)))),
      keys_(graph::transport_keys(*transport_, plan_, program_->hash)),
      setup_keys_(graph::key_names(*program_, false)),
      run_keys_(graph::key_names(*program_, true)) {}

std::shared_ptr<const graph::PhaseKeys> Channel::begin(std::uint64_t run) {
  const auto& expected = (run == 0 ? plan_.setup : plan_.online).expected;
  const std::size_t messages = use_ == Use::messages ? expected.size() : 0;
  transport_->expect(run, std::span(expected).first(messages), program_->ops.size());
  {
    const std::lock_guard lock(mutex_);
    steps_ = 0;
    told_ = std::chrono::steady_clock::now();
  }
  return std::make_shared<const graph::PhaseKeys>(
      keys_->agree(run == 0 ? setup_keys_ : run_keys_, run));
}

void Channel::send(std::uint32_t message, std::uint64_t run, std::span<const std::byte> bytes,
                   std::shared_ptr<const void> keep_alive) {
  const graph::Message& m = program_->messages[message];
  require(bytes.size() == m.bytes, "E-tf-tensor", "a message of another size", m.step);
  // Depths are those of the schedule; the engine's, which it counts as it goes, are the same.
  transport_->send(endpoint_of(m.to), {run, m.id, m.depth, false},
                   net::Payload::borrow(bytes, std::move(keep_alive)));
}

SecretBuffer Channel::receive(std::uint32_t message, std::uint64_t run) {
  const graph::Message& m = program_->messages[message];
  net::Received r = transport_->receive(endpoint_of(m.from), run, m.id, m.bytes);
  require(r.payload.size() == m.bytes, "E-net-frame", "a message of another size", m.step);
  return std::move(r.payload);
}

void Channel::tell_alive(std::uint64_t run) {
  if (use_ != Use::messages) return;  // nobody waits here
  const std::lock_guard lock(mutex_);
  ++steps_;
  const auto now = std::chrono::steady_clock::now();
  if (now - told_ <= config_.deadline / 4) return;
  for (net::PeerIndex peer = 0; peer < transport_->endpoints().size(); ++peer)
    if (peer != transport_->self()) transport_->send_alive(peer, run, steps_);
  told_ = now;
}

std::string Channel::statistics() const {
  nlohmann::json links = nlohmann::json::object();
  std::uint64_t wire = 0;
  for (net::PeerIndex peer = 0; peer < transport_->endpoints().size(); ++peer) {
    if (peer == transport_->self()) continue;
    const net::PeerStatistics s = transport_->statistics(peer);
    links[transport_->endpoints()[peer].name] = s.payload_bytes_sent;
    wire += s.wire_bytes_sent;
  }
  return nlohmann::json{{"payload_bytes_sent", links}, {"wire_bytes_sent", wire}}.dump();
}

void Channel::abort(const std::string& step, const std::string& reason) noexcept {
  try {
    transport_->abort(step, reason);
  } catch (const std::exception&) {
    // The session is over already, and the peers know.
  }
}

}  // namespace mpcc::tf
