#include "tf/channel.h"

#include <utility>

#include "base/checked.h"
#include "base/error.h"
#include "net/tls_transport.h"

namespace mpcc::tf {

Channel::Channel(std::shared_ptr<const graph::Program> program, const std::string& config,
                 std::uint32_t index, int listen_fd)
    : program_(std::move(program)),
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
  transport_->expect(run, (run == 0 ? plan_.setup : plan_.online).expected);
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

void Channel::abort(const std::string& step, const std::string& reason) noexcept {
  try {
    transport_->abort(step, reason);
  } catch (const std::exception&) {
    // The session is over already, and the peers know.
  }
}

}  // namespace mpcc::tf
