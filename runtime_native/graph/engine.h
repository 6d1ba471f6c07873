// The engine of one endpoint: runs its part of a program over a transport.
//
// A session: every endpoint makes an Engine over its connected transport. The *driver* (the
// endpoint that hosts the client) calls setup() once and then run() for every input; the others
// call serve(), which returns when the driver says goodbye. A run:
//
//   driver -> all   go            a run begins (control frame)
//   all             agree on keys, declare what they will receive, send and receive input shares
//   all -> driver   go            my input shares are here
//   driver -> all   go            the clock starts
//   all             the static schedule
//   all -> all      alive         now and then: I go on, so many actions are done
//   driver          outputs opened: the clock stops
//   all -> driver   go            what I sent and how deep (a report, JSON, nothing secret)
//
// The driver's go frames are one byte: another run, or the end of the session.
// The first error anywhere ends the session: it is told to all peers, names the endpoint and the
// step, and every later call throws.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/secret_buffer.h"
#include "base/thread_pool.h"
#include "graph/keys.h"
#include "graph/plan.h"
#include "graph/program.h"
#include "graph/trace.h"
#include "kernels/kernel.h"

namespace mpcc::graph {

struct EngineOptions {
  int threads = 1;
  // The transport's deadline. Who waits for the driver while the driver waits for others, waits
  // twice as long, so that the error names who is really missing. The driver waits twice as long,
  // too, and as long as the others tell it that they go on (four times per deadline).
  net::Duration deadline = std::chrono::seconds(10);
  // How long serve() waits for the next run. The driver's process ending is noticed at once.
  net::Duration idle = std::chrono::hours(24);
  Limits limits;
  // Record what is done when (trace_json()).
  bool trace = false;
};

// Raw bytes of tensors by name: weights as ring words, inputs as binary32, row-major.
using Tensors = std::map<std::string, std::span<const std::byte>, std::less<>>;

struct Output {
  std::string name;
  std::vector<std::int64_t> shape;
  std::vector<float> values;
};

// What one phase or run did at one endpoint (or, merged, at all).
struct PhaseStatistics {
  double seconds = 0;  // driver: from the start of the clock to the opened output
  std::map<std::string, std::uint64_t> bytes_sent;  // payload, by directed link "0->1"
  std::uint64_t messages = 0;
  std::uint32_t rounds = 0;  // deepest message sent or received
};

struct SessionStatistics {
  PhaseStatistics setup;
  std::vector<PhaseStatistics> runs;
  std::uint64_t wire_bytes_sent = 0;  // of this endpoint, TLS included
  std::uint64_t planned_bytes = 0;    // Plan::peak_bytes()
  std::uint64_t planned_work = 0;     // of a run, PhasePlan::work
  std::uint64_t allocated_bytes = 0;  // high-water mark of all SecretBuffers of the process
  std::uint64_t packed_bytes = 0;     // weights in the form of the kernels
  std::uint64_t peak_rss_bytes = 0;   // of the process
  // The driver's: what the other endpoints reported, by endpoint name.
  std::map<std::string, std::uint64_t> peer_wire_bytes;
  std::map<std::string, std::uint64_t> peer_rss_bytes;

  std::string json() const;
};

class InMemoryCluster;

class Engine {
 public:
  // Keys come from the transport. `program` and `transport` outlive the engine.
  Engine(const Program& program, net::Transport& transport, EngineOptions options);
  ~Engine();

  const Plan& plan() const noexcept { return plan_; }
  bool is_driver() const noexcept { return plan_.self == plan_.driver; }

  // Driver. `weights` must hold every weight of the model place, if this endpoint hosts it.
  void setup(const Tensors& weights);
  std::vector<Output> run(const Tensors& inputs);

  // Everybody else: setup and then runs until the driver is done. `weights` as above.
  // `on_phase`, if set, is called after every phase with its run id.
  void serve(const Tensors& weights, const std::function<void(net::RunId)>& on_phase = {});

  // Says goodbye. Idempotent; also done, less politely, by the transport's destructor.
  void close();

  SessionStatistics statistics() const;
  // What EngineOptions::trace has recorded so far, see Trace::json(); empty without it.
  std::string trace_json() const;

 private:
  friend class InMemoryCluster;
  Engine(const Program& program, net::Transport& transport, EngineOptions options,
         std::unique_ptr<KeySource> keys);

  // What the driver's go frame says.
  enum class Order : std::uint8_t { end = 0, begin = 1 };

  void tell_all(net::RunId run, Order order);
  void prepare();
  // One phase from key agreement to its end; run 0 is the setup.
  PhaseStatistics phase(net::RunId run, const Tensors& given, std::vector<Output>* outputs);
  void serve_phase(net::RunId run, const Tensors& given);
  // Runs f(); in a trace it has that name.
  template <class F>
  void traced(const char* name, net::RunId run, F&& f);
  void trace_step(const Action& action, net::RunId run,
                  std::chrono::steady_clock::time_point begin);
  void execute(const PhasePlan& phase, std::size_t begin, std::size_t end, net::RunId run,
               const Tensors& given, const PhaseKeys& keys, PhaseStatistics& stats,
               std::vector<Output>* outputs);
  void compute(const Action& action, const Tensors& given, const PhaseKeys& keys,
               std::vector<Output>* outputs);
  void receive(const Action& action, net::RunId run, PhaseStatistics& stats);
  void send(const Action& action, net::RunId run, PhaseStatistics& stats);
  void count(const Message& message, PhaseStatistics& stats) const;
  void finish(const Action& action);
  // At the end of the setup: what runs need of its values in another form.
  void pack_operands(net::RunId run);
  // Tells the others now and then that this endpoint goes on: `steps` actions of the phase are
  // done.
  void tell_alive(net::RunId run, std::size_t steps);
  const std::byte* address(std::uint32_t value) const {
    const std::byte* root = data_[plan_.root[value]];
    return root == nullptr ? nullptr : root + plan_.shift[value];
  }
  std::byte* make_buffer(std::uint32_t value);
  std::shared_ptr<SecretBuffer> outgoing_buffer(std::size_t size);
  void gather_reports(net::RunId run, PhaseStatistics& stats);
  std::string report(const PhaseStatistics& stats) const;
  template <class F>
  void guarded(const std::string& doing, F&& f);

  const Program& program_;
  net::Transport& transport_;
  EngineOptions options_;
  Plan plan_;
  std::unique_ptr<KeySource> keys_;
  ThreadPool pool_;
  std::optional<Trace> trace_;
  std::vector<std::string> setup_keys_;
  std::vector<std::string> run_keys_;
  std::map<std::uint32_t, kernels::Kernel> kernels_;  // by op

  std::vector<std::uint32_t> depth_;  // per value
  // Per root.
  std::vector<const std::byte*> data_;
  std::vector<SecretBuffer> owned_;  // persistent, message
  std::vector<std::shared_ptr<SecretBuffer>> outgoing_;
  std::vector<std::shared_ptr<SecretBuffer>> pool_buffers_;  // outgoing, to be used again
  SecretBuffer arena_;

  std::uint32_t current_op_ = 0;  // for errors
  std::chrono::steady_clock::time_point told_alive_;
  net::RunId next_run_ = 0;
  std::vector<Output> setup_outputs_;  // that depend on no input: the same in every run
  SessionStatistics stats_;
  bool closed_ = false;
};

// Names a message id in a transport's errors.
std::function<std::string(std::uint32_t)> step_names(const Program& program);

}  // namespace mpcc::graph
