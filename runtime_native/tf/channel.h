// The connections of one endpoint for the ops that send and receive: the engine's own transport,
// with its identities, sizes, deadlines and errors. Used where every party runs its own part of the
// graph in a TensorFlow session of its own.
//
// A receiving op waits on one of TensorFlow's threads: in the C interface (2.21) an asynchronous
// kernel's callback ends with the call that was given it, so it cannot be kept for later. The
// part's graph therefore chains the receiving ops in the order of the static schedule, in which no
// message depends on a later one: one thread waits at a time, and the others compute and send.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "graph/keys.h"
#include "graph/session.h"

namespace mpcc::tf {

class Channel {
 public:
  // What it carries: keys and messages, or keys alone where TensorFlow's edges are the messages.
  enum class Use : std::uint8_t { messages, keys };

  // Connects as endpoint `index` of the configuration. `listen_fd`: a listening socket of this
  // endpoint's port, or -1. Throws as graph::read_config(), graph::plan_of() and graph::connect().
  Channel(std::shared_ptr<const graph::Program> program, const std::string& config,
          std::uint32_t index, int listen_fd, Use use);

  const graph::Plan& plan() const noexcept { return plan_; }
  Use use() const noexcept { return use_; }

  // Declares the messages of the setup (0) or a run, and agrees on its keys with the peers; all
  // messages of the phase before must have been received. Blocks.
  std::shared_ptr<const graph::PhaseKeys> begin(std::uint64_t run);
  void send(std::uint32_t message, std::uint64_t run, std::span<const std::byte> bytes,
            std::shared_ptr<const void> keep_alive);
  // Waits for the message.
  SecretBuffer receive(std::uint32_t message, std::uint64_t run);
  // Tells all peers, and every op that waits, that this endpoint stops at `step`.
  void abort(const std::string& step, const std::string& reason) noexcept;
  // Throws the error that has ended the session, if one has: a peer that is gone is noticed here
  // although nobody waits for a message of it.
  void check() { transport_->check(); }
  // An op of a run is done: tells those who wait, now and then, that this endpoint goes on.
  void tell_alive(std::uint64_t run);
  // Payload by directed link and bytes on the wire that this endpoint has sent, as JSON.
  std::string statistics() const;
  void close() { transport_->close(); }

 private:
  std::uint32_t endpoint_of(Place place) const { return plan_.endpoint_of_place[index_of(place)]; }

  std::shared_ptr<const graph::Program> program_;
  const Use use_;
  const graph::ClusterConfig config_;
  const graph::Plan plan_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<graph::KeySource> keys_;
  const std::vector<std::string> setup_keys_;
  const std::vector<std::string> run_keys_;

  std::mutex mutex_;  // of what follows
  std::uint64_t steps_ = 0;
  std::chrono::steady_clock::time_point told_;
};

}  // namespace mpcc::tf
