// The connections of one endpoint for the ops that send and receive: the engine's own transport,
// with its identities, sizes, deadlines and errors. Used where every party runs its own part of the
// graph in a TensorFlow session of its own.
//
// TensorFlow starts all receiving ops of a step at once and in any order, and waits for none of
// them on a thread of its own. So each peer has a thread here that takes its messages in the order
// of the plan, in which no message depends on a later one, and hands each to the op that asked.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "graph/keys.h"
#include "graph/session.h"

namespace mpcc::tf {

class Channel {
 public:
  // Gets the message, or null and what went wrong.
  using Done = std::function<void(SecretBuffer*, std::exception_ptr)>;

  // Connects as endpoint `index` of the configuration. `listen_fd`: a listening socket of this
  // endpoint's port, or -1. Throws as graph::read_config(), graph::plan_of() and graph::connect().
  Channel(std::shared_ptr<const graph::Program> program, const std::string& config,
          std::uint32_t index, int listen_fd);
  ~Channel();
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;

  const graph::Plan& plan() const noexcept { return plan_; }

  // Declares the messages of the setup (0) or a run, and agrees on its keys with the peers; all
  // messages of the phase before must have arrived. Blocks.
  std::shared_ptr<const graph::PhaseKeys> begin(std::uint64_t run);
  void send(std::uint32_t message, std::uint64_t run, std::span<const std::byte> bytes,
            std::shared_ptr<const void> keep_alive);
  // Calls `done` once, from another thread or from this one.
  void receive(std::uint32_t message, std::uint64_t run, Done done);
  // Tells all peers, and every op that waits, that this endpoint stops at `step`.
  void abort(const std::string& step, const std::string& reason) noexcept;
  void close();

 private:
  struct Peer {
    std::deque<net::Expected> due;  // of the current run, in the order of the plan
    std::thread reader;
  };
  void read(net::PeerIndex peer);
  std::uint32_t endpoint_of(Place place) const { return plan_.endpoint_of_place[index_of(place)]; }

  std::shared_ptr<const graph::Program> program_;
  const graph::ClusterConfig config_;
  const graph::Plan plan_;
  std::unique_ptr<net::Transport> transport_;
  std::unique_ptr<graph::KeySource> keys_;
  const std::vector<std::string> setup_keys_;
  const std::vector<std::string> run_keys_;

  std::mutex mutex_;  // of what follows
  std::condition_variable changed_;
  bool closing_ = false;
  std::exception_ptr failure_;
  std::uint64_t run_ = 0;
  std::map<std::uint32_t, Done> waiting_;  // by message
  std::vector<Peer> peers_;                // by endpoint
};

}  // namespace mpcc::tf
