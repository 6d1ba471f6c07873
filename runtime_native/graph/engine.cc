#include "graph/engine.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "base/checked.h"
#include "base/error.h"
#include "graph/report.h"
#include "net/blame.h"

namespace mpcc::graph {
namespace {

using Clock = std::chrono::steady_clock;
using nlohmann::json;

// Most bytes of received messages' buffers that stay for the next run although fewer are in use at
// once: enough for batches of small networks, little beside what large networks need anyway.
constexpr std::size_t kKeptBytes = std::size_t{64} << 20;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// Not getrusage(): its maximum is inherited from the process that called exec.
std::uint64_t peak_rss() {
  std::ifstream status("/proc/self/status");
  std::string key;
  while (status >> key) {
    std::uint64_t kib = 0;
    if (key == "VmHWM:" && status >> kib) return kib * 1024;
    status.ignore(1 << 12, '\n');
  }
  return 0;
}

json to_json(const PhaseStatistics& s) {
  return {{"seconds", s.seconds},
          {"bytes_sent", s.bytes_sent},
          {"messages", s.messages},
          {"rounds", s.rounds}};
}

void merge(PhaseStatistics& into, const PhaseStatistics& other) {
  for (const auto& [link, bytes] : other.bytes_sent) into.bytes_sent[link] += bytes;
  into.messages += other.messages;
  into.rounds = std::max(into.rounds, other.rounds);
}

}  // namespace

std::string SessionStatistics::json() const {
  nlohmann::json j;
  j["setup"] = to_json(setup);
  j["runs"] = nlohmann::json::array();
  for (const auto& r : runs) j["runs"].push_back(to_json(r));
  j["wire_bytes_sent"] = wire_bytes_sent;
  j["planned_bytes"] = planned_bytes;
  j["planned_work"] = planned_work;
  j["allocated_bytes"] = allocated_bytes;
  j["packed_bytes"] = packed_bytes;
  j["peak_rss_bytes"] = peak_rss_bytes;
  if (!peer_wire_bytes.empty()) j["peer_wire_bytes"] = peer_wire_bytes;
  if (!peer_rss_bytes.empty()) j["peer_rss_bytes"] = peer_rss_bytes;
  return j.dump();
}

std::function<std::string(std::uint32_t)> step_names(const Program& program) {
  return [&program](std::uint32_t id) {
    return id < program.messages.size() ? program.messages[id].step : std::string();
  };
}

Engine::Engine(const Program& program, net::Transport& transport, EngineOptions options)
    : Engine(program, transport, options, nullptr) {}

Engine::Engine(const Program& program, net::Transport& transport, EngineOptions options,
               std::unique_ptr<KeySource> keys)
    : program_(program),
      transport_(transport),
      options_(options),
      plan_(make_plan(program, transport.endpoints(), transport.self(),
                      {.threads = options.threads, .limits = options.limits})),
      keys_(keys ? std::move(keys) : transport_keys(transport, plan_, program.hash)),
      pool_(options.threads),
      trace_(options.trace ? std::optional<Trace>(std::in_place) : std::nullopt),
      setup_keys_(key_names(program, false)),
      run_keys_(key_names(program, true)) {
  prepare();
}

Engine::~Engine() = default;

void Engine::prepare() {
  const std::size_t n = program_.values.size();
  data_.assign(n, nullptr);
  depth_.assign(n, 0);
  owned_.resize(n);
  outgoing_.resize(n);
  for (const PhasePlan* phase : {&plan_.setup, &plan_.online})
    for (const Action& a : phase->actions) {
      if (a.kind != Action::Kind::compute) continue;
      const Op& op = program_.ops[a.op];
      if (op.code == OpCode::Input || op.code == OpCode::Weight || op.code == OpCode::Output)
        continue;
      require(kernels::has_kernel(op), "E-graph-unknown-op", "the engine has no kernel",
              program_.describe(a.op));
      std::vector<ValueType> operands;
      std::vector<bool> constant;
      for (const std::uint32_t v : op.operands) {
        operands.push_back(program_.values[v]);
        constant.push_back(phase == &plan_.online && !program_.steps[program_.producer[v]].online);
      }
      kernels_.try_emplace(a.op, op, operands, std::move(constant));
    }
  stats_.planned_bytes = plan_.peak_bytes();
  stats_.planned_work = plan_.online.work;
}

template <class F>
void Engine::guarded(const std::string& doing, F&& f) {
  const std::string& name = transport_.endpoints()[plan_.self].name;
  try {
    f();
  } catch (const Error& error) {
    // What the transport throws is known to the peers already.
    const Error named = net::blamed(error.within(name + ", " + doing), name, doing);
    if (!error.code().starts_with("E-net-")) transport_.abort(doing, error.code());
    throw named;
  } catch (const std::exception& error) {
    transport_.abort(doing, "E-engine");
    throw net::blamed(Error("E-engine", error.what(), name + ", " + doing), name, doing);
  }
}

std::byte* Engine::make_buffer(std::uint32_t value) {
  const std::size_t bytes = program_.values[value].bytes();
  switch (plan_.home[value]) {
    case Home::arena:
      return arena_.data() + plan_.offset[value];
    case Home::outgoing: {
      outgoing_[value] = outgoing_buffer(outgoing_class(bytes));
      return outgoing_[value]->data();
    }
    case Home::persistent:
      owned_[value] = SecretBuffer::uninitialized(std::max<std::size_t>(bytes, 1));
      return owned_[value].data();
    default:
      throw Error("E-engine", "a value without a home", "value " + std::to_string(value));
  }
}

std::shared_ptr<SecretBuffer> Engine::outgoing_buffer(std::size_t size) {
  // Nobody but the pool refers to a buffer whose message has left.
  std::size_t total = size;
  for (const auto& b : pool_buffers_) {
    if (b.use_count() == 1 && b->size() == size) return b;
    total += b->size();
  }
  // Idle buffers of other sizes must not add up beyond the plan.
  const std::size_t most = std::max(plan_.setup.outgoing_bytes, plan_.online.outgoing_bytes);
  std::erase_if(pool_buffers_, [&](const auto& b) {
    if (total <= most || b.use_count() != 1) return false;
    total -= b->size();
    return true;
  });
  pool_buffers_.push_back(std::make_shared<SecretBuffer>(SecretBuffer::uninitialized(size)));
  return pool_buffers_.back();
}

void Engine::count(const Message& message, PhaseStatistics& stats) const {
  stats.bytes_sent[link_name(message.from, message.to)] += message.bytes;
  ++stats.messages;
}

void Engine::receive(const Action& action, net::RunId run, PhaseStatistics& stats) {
  const Message& m = program_.messages[program_.message_of_op[action.op]];
  const std::uint32_t value = program_.ops[action.op].results[0];
  // The driver waits for outputs while the parties wait for each other: it leaves them the time to
  // find out who is missing, and the time that they need as long as they tell it that they go on.
  const auto limit = is_driver() ? 2 * options_.deadline : options_.deadline;
  net::Received r = transport_.receive(action.peer, run, m.id, m.bytes, limit);
  require(r.payload.size() == m.bytes, "E-net-frame", "a message of another size", m.step);
  owned_[value] = std::move(r.payload);
  data_[value] = owned_[value].data();
  depth_[value] = r.depth;
  stats.rounds = std::max(stats.rounds, r.depth);
}

void Engine::send(const Action& action, net::RunId run, PhaseStatistics& stats) {
  const Message& m = program_.messages[program_.message_of_op[action.op]];
  const std::uint32_t value = program_.ops[action.op].operands[0];
  const std::uint32_t root = plan_.root[value];
  const std::uint32_t depth = depth_[value] + 1;
  const std::span<const std::byte> bytes{address(value), m.bytes};
  net::Payload payload =
      outgoing_[root] ? net::Payload::borrow(bytes, outgoing_[root]) : net::Payload::copy_of(bytes);
  transport_.send(action.peer, {run, m.id, depth, action.more}, std::move(payload));
  count(m, stats);
  stats.rounds = std::max(stats.rounds, depth);
}

void Engine::finish(const Action& action) {
  for (const std::uint32_t root : action.ends) {
    data_[root] = nullptr;
    if (plan_.home[root] == Home::outgoing) outgoing_[root].reset();
    if (plan_.home[root] == Home::message) transport_.recycle(std::move(owned_[root]));
  }
}

void Engine::compute(const Action& action, const Tensors& given, const PhaseKeys& keys,
                     std::vector<Output>* outputs) {
  const Op& op = program_.ops[action.op];
  if (op.code == OpCode::Input || op.code == OpCode::Weight) {
    const std::string& name = op.attributes.text("name");
    const auto found = given.find(name);
    const std::uint32_t value = op.results[0];
    const std::string what = op.code == OpCode::Input ? "input" : "weight";
    require(found != given.end(), "E-run-" + what,
            "no " + what + " named '" + name + "' was given");
    require(found->second.size() == program_.values[value].bytes(), "E-run-" + what,
            what + " '" + name + "' has another size than " + program_.values[value].str());
    std::byte* to = make_buffer(value);
    if (!found->second.empty()) std::memcpy(to, found->second.data(), found->second.size());
    data_[value] = to;
    depth_[value] = 0;
    return;
  }
  std::vector<const std::byte*> in;
  std::uint32_t depth = 0;
  const bool online = program_.steps[action.op].online;
  for (const std::uint32_t v : op.operands) {
    in.push_back(address(v));
    if (program_.steps[program_.producer[v]].online == online) depth = std::max(depth, depth_[v]);
  }
  if (op.code == OpCode::Output) {
    const ValueType& type = program_.values[op.operands[0]];
    Output output{op.attributes.text("name"), type.shape, std::vector<float>(type.lanes)};
    if (type.lanes != 0) std::memcpy(output.values.data(), in[0], type.bytes());
    if (outputs != nullptr) outputs->push_back(std::move(output));
    return;
  }
  std::vector<std::byte*> out;
  for (const std::uint32_t v : op.results) {
    // Another root is that of the operand which the result is written over.
    if (plan_.root[v] == v) data_[v] = make_buffer(v);
    out.push_back(const_cast<std::byte*>(data_[plan_.root[v]]));
    depth_[v] = depth;
  }
  kernels::Kernel& kernel = kernels_.at(action.op);
  std::vector<const prg::Aes128*> held;
  for (const kernels::KeyName& key : kernel.keys()) {
    const auto found = keys.find(key.holders);
    require(found != keys.end(), "E-engine", "a key was not agreed on");
    held.push_back(&found->second);
  }
  kernel.run(in, out, held, pool_);
}

void Engine::pack_operands(net::RunId run) {
  // The first run would do it otherwise, on the clock.
  std::uint64_t steps = plan_.setup.actions.size();
  for (const Action& a : plan_.online.actions) {
    if (a.kind != Action::Kind::compute) continue;
    const auto found = kernels_.find(a.op);
    if (found == kernels_.end() || !found->second.packs()) continue;
    transport_.check();
    std::vector<const std::byte*> in;
    for (const std::uint32_t v : program_.ops[a.op].operands)
      in.push_back(program_.steps[program_.producer[v]].online ? nullptr : address(v));
    found->second.pack(in);
    if (++steps <= program_.ops.size()) tell_alive(run, steps);
  }
}

template <class F>
void Engine::traced(const char* name, net::RunId run, F&& f) {
  const auto started = trace_ ? Clock::now() : Clock::time_point();
  f();
  if (trace_) trace_->add(name, run, started);
}

void Engine::trace_step(const Action& action, net::RunId run, Clock::time_point begin) {
  if (action.kind == Action::Kind::alias) return;
  std::uint64_t bytes = 0;
  if (action.kind == Action::Kind::compute) {
    for (const std::uint32_t v : program_.ops[action.op].results)
      bytes += program_.values[v].bytes();
  } else {
    bytes = program_.messages[program_.message_of_op[action.op]].bytes;
  }
  trace_->add(action, run, begin, bytes);
}

void Engine::execute(const PhasePlan& phase, std::size_t begin, std::size_t end, net::RunId run,
                     const Tensors& given, const PhaseKeys& keys, PhaseStatistics& stats,
                     std::vector<Output>* outputs) {
  for (std::size_t i = begin; i < end; ++i) {
    const Action& a = phase.actions[i];
    current_op_ = a.op;
    // Sends and receives notice by themselves; work without them should not go on for nobody.
    if (a.kind == Action::Kind::compute) transport_.check();
    const auto started = trace_ ? Clock::now() : Clock::time_point();
    switch (a.kind) {
      case Action::Kind::compute:
        compute(a, given, keys, outputs);
        break;
      case Action::Kind::receive:
        receive(a, run, stats);
        break;
      case Action::Kind::send:
        send(a, run, stats);
        break;
      case Action::Kind::alias: {
        const Op& op = program_.ops[a.op];
        const std::uint32_t from = op.operands[0];
        const bool same_phase = program_.steps[program_.producer[from]].online == (run != 0);
        std::uint32_t& depth = depth_[op.results[0]];
        depth = same_phase ? depth_[from] : 0;
        if (!program_.is_transfer(a.op)) break;
        ++depth;
        count(program_.messages[program_.message_of_op[a.op]], stats);
        stats.rounds = std::max(stats.rounds, depth);
        break;
      }
    }
    if (trace_) trace_step(a, run, started);
    finish(a);
    tell_alive(run, i + 1);
  }
}

void Engine::tell_alive(net::RunId run, std::size_t steps) {
  // From this thread and nowhere else: an engine that is stuck falls silent.
  const auto now = Clock::now();
  if (now - told_alive_ <= options_.deadline / 4) return;
  for (net::PeerIndex peer = 0; peer < transport_.endpoints().size(); ++peer)
    if (peer != transport_.self()) transport_.send_alive(peer, run, steps);
  told_alive_ = now;
}

PhaseStatistics Engine::phase(net::RunId run, const Tensors& given, std::vector<Output>* outputs) {
  const bool online = run != 0;
  const PhasePlan& plan = online ? plan_.online : plan_.setup;
  PhaseStatistics stats;
  const auto started = Clock::now();
  std::string doing = "preparing run " + std::to_string(run);
  guarded(doing, [&] {
    if (arena_.size() < plan.arena_bytes) {
      arena_.reset();
      arena_ = SecretBuffer::uninitialized(plan.arena_bytes);
    }
    // Whoever waits through a long step of somebody else's is told that he goes on.
    transport_.expect(run, plan.expected, program_.ops.size());
    // The plan counts all messages of a run as if they all were there at once; those of the setup
    // are counted beside what the setup needs, and not here.
    if (run == 1) transport_.keep_buffers(std::min(plan.message_bytes, kKeptBytes));
    told_alive_ = Clock::now();
  });
  const auto steps = [&](std::size_t begin, std::size_t end, const PhaseKeys& keys) {
    try {
      execute(plan, begin, end, run, given, keys, stats, outputs);
    } catch (const Error& error) {
      guarded("run " + std::to_string(run) + ", " + program_.describe(current_op_),
              [&] { throw error; });
    } catch (const std::exception& error) {
      guarded("run " + std::to_string(run) + ", " + program_.describe(current_op_),
              [&] { throw Error("E-engine", error.what()); });
    }
  };
  PhaseKeys keys;
  guarded("agreeing on keys of run " + std::to_string(run), [&] {
    traced("agree on keys", run,
           [&] { keys = keys_->agree(online ? run_keys_ : setup_keys_, run); });
  });
  if (!online) {
    steps(0, plan.actions.size(), keys);
    guarded("packing weights", [&] { traced("pack weights", run, [&] { pack_operands(run); }); });
    stats.seconds = seconds_since(started);
    return stats;
  }
  steps(0, plan.sharing_ends, keys);
  auto clock = Clock::now();
  const auto shared = trace_ ? Clock::now() : Clock::time_point();
  guarded("waiting for input shares of run " + std::to_string(run), [&] {
    if (is_driver()) {
      for (std::uint32_t peer = 0; peer < transport_.endpoints().size(); ++peer)
        if (peer != plan_.self) (void)transport_.receive_control(peer, net::FrameKind::go, run);
      clock = Clock::now();
      tell_all(run, Order::begin);
    } else {
      transport_.send_control(plan_.driver, net::FrameKind::go, run, {});
      (void)transport_.receive_control(plan_.driver, net::FrameKind::go, run,
                                       2 * options_.deadline);
      clock = Clock::now();
    }
  });
  if (trace_) trace_->add("wait for all input shares", run, shared);
  steps(plan.sharing_ends, plan.actions.size(), keys);
  stats.seconds = seconds_since(clock);
  return stats;
}

std::string Engine::report(const PhaseStatistics& stats) const {
  json j = to_json(stats);
  j["rss"] = peak_rss();
  std::uint64_t wire = 0;
  for (std::uint32_t peer = 0; peer < transport_.endpoints().size(); ++peer)
    if (peer != plan_.self) wire += transport_.statistics(peer).wire_bytes_sent;
  j["wire"] = wire;
  return j.dump();
}

void Engine::gather_reports(net::RunId run, PhaseStatistics& stats) {
  guarded("gathering reports of run " + std::to_string(run), [&] {
    for (std::uint32_t peer = 0; peer < transport_.endpoints().size(); ++peer) {
      if (peer == plan_.self) continue;
      const SecretBuffer bytes =
          transport_.receive_control(peer, net::FrameKind::go, run, 2 * options_.deadline);
      const auto& [name, places] = transport_.endpoints()[peer];
      std::set<Place> hosted;
      for (const std::string& place : places) hosted.insert(parse_place(place));
      try {
        const PhaseReport r = read_report({bytes.data(), bytes.size()}, program_, hosted, run != 0);
        merge(stats, {0, r.bytes_sent, r.messages, r.rounds});
        stats_.peer_rss_bytes[name] = r.rss_bytes;
        stats_.peer_wire_bytes[name] = r.wire_bytes;
      } catch (const Error& error) {
        const std::string step = "run " + std::to_string(run) + ", report";
        const Error named(error.code(), name + ": " + error.message(),
                          net::blame_text(name, step).substr(1));
        transport_.abort(step, named.what());
        throw named;
      }
    }
  });
}

void Engine::tell_all(net::RunId run, Order order) {
  const auto payload = std::as_bytes(std::span(&order, 1));
  for (std::uint32_t peer = 0; peer < transport_.endpoints().size(); ++peer)
    if (peer != plan_.self) transport_.send_control(peer, net::FrameKind::go, run, payload);
}

void Engine::setup(const Tensors& weights) {
  require(is_driver() && next_run_ == 0, "E-engine-usage", "setup() is the driver's, once");
  const auto started = Clock::now();
  guarded("starting the session", [&] { tell_all(0, Order::begin); });
  setup_outputs_.clear();
  stats_.setup = phase(0, weights, &setup_outputs_);
  next_run_ = 1;
  gather_reports(0, stats_.setup);
  stats_.setup.seconds = seconds_since(started);
}

std::vector<Output> Engine::run(const Tensors& inputs) {
  require(is_driver() && next_run_ != 0, "E-engine-usage", "run() is the driver's, after setup()");
  // A run id is used once, whatever comes of the run.
  const net::RunId run = next_run_++;
  guarded("starting run " + std::to_string(run), [&] { tell_all(run, Order::begin); });
  std::vector<Output> outputs = setup_outputs_;
  PhaseStatistics stats = phase(run, inputs, &outputs);
  gather_reports(run, stats);
  stats_.runs.push_back(std::move(stats));
  return outputs;
}

void Engine::serve_phase(net::RunId run, const Tensors& given) {
  PhaseStatistics stats = phase(run, given, nullptr);
  guarded("reporting run " + std::to_string(run), [&] {
    const std::string text = report(stats);
    transport_.send_control(plan_.driver, net::FrameKind::go, run, std::as_bytes(std::span(text)));
  });
  if (run == 0)
    stats_.setup = std::move(stats);
  else
    stats_.runs.push_back(std::move(stats));
}

void Engine::serve(const Tensors& weights, const std::function<void(net::RunId)>& on_phase) {
  require(!is_driver(), "E-engine-usage", "serve() is for the endpoints that do not drive");
  for (net::RunId run = 0;; ++run) {
    bool more = true;
    guarded("waiting for run " + std::to_string(run), [&] {
      const SecretBuffer order =
          transport_.receive_control(plan_.driver, net::FrameKind::go, run, options_.idle);
      require(order.size() == 1, "E-net-frame", "an order that is not one byte");
      more = order.data()[0] == static_cast<std::byte>(Order::begin);
    });
    if (!more) return;
    serve_phase(run, run == 0 ? weights : Tensors{});
    if (on_phase) on_phase(run);
  }
}

void Engine::close() {
  if (closed_) return;
  closed_ = true;
  if (is_driver()) tell_all(next_run_, Order::end);
  transport_.close();
}

SessionStatistics Engine::statistics() const {
  SessionStatistics s = stats_;
  for (std::uint32_t peer = 0; peer < transport_.endpoints().size(); ++peer)
    if (peer != plan_.self) s.wire_bytes_sent += transport_.statistics(peer).wire_bytes_sent;
  for (const auto& [op, kernel] : kernels_) s.packed_bytes += kernel.packed_bytes();
  s.allocated_bytes = SecretBuffer::memory_use().most;
  s.peak_rss_bytes = peak_rss();
  return s;
}

std::string Engine::trace_json() const {
  if (!trace_) return {};
  std::vector<std::string> names;
  for (const auto& e : transport_.endpoints()) names.push_back(e.name);
  return trace_->json(program_, names, plan_.self);
}

}  // namespace mpcc::graph
