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
      run_keys_(graph::key_names(*program_, true)),
      peers_(transport_->endpoints().size()) {
  for (net::PeerIndex peer = 0; peer < peers_.size(); ++peer)
    if (peer != plan_.self) peers_[peer].reader = std::thread([this, peer] { read(peer); });
}

Channel::~Channel() {
  abort("closing", "the endpoint leaves");
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  for (Peer& peer : peers_)
    if (peer.reader.joinable()) peer.reader.join();
}

std::shared_ptr<const graph::PhaseKeys> Channel::begin(std::uint64_t run) {
  const graph::PhasePlan& phase = run == 0 ? plan_.setup : plan_.online;
  {
    const std::lock_guard lock(mutex_);
    if (failure_) std::rethrow_exception(failure_);
    for (const Peer& peer : peers_)
      require(peer.due.empty(), "E-tf-run", "messages of the run before have not been taken");
  }
  transport_->expect(run, phase.expected);
  auto keys = std::make_shared<const graph::PhaseKeys>(
      keys_->agree(run == 0 ? setup_keys_ : run_keys_, run));
  const std::lock_guard lock(mutex_);
  run_ = run;
  // The plan's table is in the order of its actions.
  for (const graph::Action& action : phase.actions) {
    if (action.kind != graph::Action::Kind::receive) continue;
    const graph::Message& m = program_->messages[program_->message_of_op[action.op]];
    peers_[action.peer].due.push_back({action.peer, m.id, m.bytes, m.depth});
  }
  changed_.notify_all();
  return keys;
}

void Channel::send(std::uint32_t message, std::uint64_t run, std::span<const std::byte> bytes,
                   std::shared_ptr<const void> keep_alive) {
  const graph::Message& m = program_->messages[message];
  require(bytes.size() == m.bytes, "E-tf-tensor", "a message of another size", m.step);
  // Depths are those of the schedule; the engine's, which it counts as it goes, are the same.
  transport_->send(endpoint_of(m.to), {run, m.id, m.depth, false},
                   net::Payload::borrow(bytes, std::move(keep_alive)));
}

void Channel::receive(std::uint32_t message, std::uint64_t run, Done done) {
  std::exception_ptr failure;
  {
    const std::lock_guard lock(mutex_);
    failure = failure_;
    if (!failure && run != run_)
      failure = std::make_exception_ptr(Error("E-tf-run", "another run has begun"));
    if (!failure) waiting_.emplace(message, std::move(done));
  }
  if (failure)
    done(nullptr, failure);
  else
    changed_.notify_all();
}

void Channel::read(net::PeerIndex peer) {
  for (;;) {
    net::Expected next;
    std::uint64_t run = 0;
    Done done;
    {
      std::unique_lock lock(mutex_);
      const auto ready = [&] {
        return !peers_[peer].due.empty() && waiting_.contains(peers_[peer].due.front().message);
      };
      changed_.wait(lock, [&] { return closing_ || failure_ || ready(); });
      if (closing_ || failure_) return;
      next = peers_[peer].due.front();
      run = run_;
      auto found = waiting_.extract(next.message);
      done = std::move(found.mapped());
    }
    try {
      net::Received r = transport_->receive(peer, run, next.message, next.bytes);
      require(r.depth == next.depth, "E-net-frame", "a message of another depth",
              program_->messages[next.message].step);
      {
        const std::lock_guard lock(mutex_);
        if (!peers_[peer].due.empty()) peers_[peer].due.pop_front();
      }
      done(&r.payload, nullptr);
      transport_->recycle(std::move(r.payload));
    } catch (...) {
      const std::exception_ptr error = std::current_exception();
      std::map<std::uint32_t, Done> others;
      {
        const std::lock_guard lock(mutex_);
        if (!failure_) failure_ = error;
        others.swap(waiting_);
      }
      changed_.notify_all();
      if (done) done(nullptr, error);
      for (auto& [message, other] : others) other(nullptr, error);
      return;
    }
  }
}

void Channel::abort(const std::string& step, const std::string& reason) noexcept {
  try {
    transport_->abort(step, reason);
  } catch (const std::exception&) {
    // The session is over already, and the peers know.
  }
  std::map<std::uint32_t, Done> waiting;
  std::exception_ptr failure;
  {
    const std::lock_guard lock(mutex_);
    if (!failure_) failure_ = std::make_exception_ptr(Error("E-net-closed", reason, step));
    failure = failure_;
    waiting.swap(waiting_);
  }
  changed_.notify_all();
  for (auto& [message, done] : waiting) done(nullptr, failure);
}

void Channel::close() {
  {
    const std::lock_guard lock(mutex_);
    closing_ = true;
  }
  changed_.notify_all();
  transport_->close();
}

}  // namespace mpcc::tf
