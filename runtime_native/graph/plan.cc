#include "graph/plan.h"

#include <algorithm>
#include <array>
#include <bit>
#include <limits>
#include <map>
#include <set>
#include <tuple>

#include "base/error.h"
#include "kernels/demand.h"
#include "kernels/linear.h"
#include "kernels/region.h"
#include "kernels/structural.h"
#include "net/blame.h"

namespace mpcc::graph {
namespace {

constexpr std::uint32_t kNowhere = 0xffffffff;
// Work between two messages to one peer below which they leave in one write: bytes touched.
constexpr std::size_t kCoalesceBytes = 64 << 10;

std::size_t aligned(std::size_t n) { return (n + 63) / 64 * 64; }
// Bytes of a buffer for a value of its own.
std::size_t held(std::size_t n) { return aligned(std::max<std::size_t>(n, 1)); }

// A slice of less than this part of what it is taken of is copied: it would keep all of that in
// memory, and there is little to copy.
constexpr std::size_t kLeastPart = 16;
// Operands of one op that results may be written over: enough for what a compiler fuses, and few
// beside what a hostile program may have.
constexpr std::size_t kMostEnding = 64;

// Gives offsets to intervals in the order of time: first fit, except that of the ranges of the same
// magnitude as the interval only the first few are tried, so that a program made to leave holes
// everywhere is planned in time, too.
class Arena {
 public:
  std::size_t take(std::size_t bytes) {
    bytes = held(bytes);
    const std::size_t magnitude = magnitude_of(bytes);
    std::size_t at = kNone;
    for (std::size_t m = magnitude + 1; m < kMagnitudes; ++m)
      if (!offsets_[m].empty()) at = std::min(at, *offsets_[m].begin());
    std::size_t tried = 0;
    for (const std::size_t offset : offsets_[magnitude]) {
      if (offset > at || ++tried > kTried) break;
      if (free_.at(offset) >= bytes) at = offset;
    }
    if (at != kNone) {
      const std::size_t rest = remove(at) - bytes;
      if (rest != 0) add(at + bytes, rest);
      return at;
    }
    // Extend the free range at the end, if there is one.
    at = end_;
    if (!free_.empty()) {
      const auto last = std::prev(free_.end());
      if (last->first + last->second == end_) {
        at = last->first;
        remove(at);
      }
    }
    // The range at the end is as large as the interval if it was not tried.
    end_ = std::max(end_, at + bytes);
    if (at + bytes < end_) add(at + bytes, end_ - at - bytes);
    return at;
  }

  void give(std::size_t at, std::size_t bytes) {
    bytes = held(bytes);
    const auto next = free_.lower_bound(at);
    if (next != free_.begin()) {
      const auto before = std::prev(next);
      if (before->first + before->second == at) {
        at = before->first;
        bytes += before->second;
      }
    }
    if (next != free_.end() && at + bytes == next->first) {
      const std::size_t size = next->second;
      remove(next->first);
      bytes += size;
    }
    if (const auto before = free_.find(at); before != free_.end()) remove(at);
    add(at, bytes);
  }

  std::size_t bytes() const noexcept { return end_; }

 private:
  static constexpr std::size_t kMagnitudes = 64;
  static constexpr std::size_t kTried = 256;
  static constexpr std::size_t kNone = std::numeric_limits<std::size_t>::max();

  static std::size_t magnitude_of(std::size_t bytes) {
    return static_cast<std::size_t>(std::bit_width(bytes)) - 1;
  }
  void add(std::size_t at, std::size_t bytes) {
    free_.emplace(at, bytes);
    offsets_[magnitude_of(bytes)].insert(at);
  }
  std::size_t remove(std::size_t at) {
    const auto range = free_.find(at);
    const std::size_t bytes = range->second;
    offsets_[magnitude_of(bytes)].erase(at);
    free_.erase(range);
    return bytes;
  }

  std::map<std::size_t, std::size_t> free_;                 // offset -> bytes
  std::array<std::set<std::size_t>, kMagnitudes> offsets_;  // of the free ranges of 2^i bytes up
  std::size_t end_ = 0;
};

class Planner {
 public:
  Planner(const Program& program, const std::vector<net::EndpointInfo>& endpoints,
          std::uint32_t self, const PlanOptions& options)
      : p_(program), endpoints_(endpoints), options_(options) {
    plan_.self = self;
    plan_.endpoint_of_place.assign(kPlaces, kNowhere);
    for (std::uint32_t e = 0; e < endpoints.size(); ++e)
      for (const std::string& name : endpoints[e].places) {
        const Place place = parse_place(name);
        auto& at = plan_.endpoint_of_place[index_of(place)];
        if (at != kNowhere)
          throw Error("E-graph-place", "place " + name + " is hosted by two endpoints");
        at = e;
        if (e == self) plan_.places.insert(place);
      }
    for (const Step& s : p_.steps)
      if (endpoint(s.place) == kNowhere)
        throw Error("E-graph-place", "no endpoint hosts " + std::string(place_name(s.place)));
    plan_.driver = endpoint(Place::client);
    if (plan_.driver == kNowhere) throw Error("E-graph-place", "no endpoint hosts the client");
  }

  Plan run();

 private:
  std::uint32_t endpoint(Place place) const { return plan_.endpoint_of_place[index_of(place)]; }
  bool mine(Place place) const { return endpoint(place) == plan_.self; }
  bool is_alias(std::uint32_t op) const { return alias_[op]; }
  void find_sends();
  void find_roots();
  void find_lazy();
  void order_phase(bool online);
  void emit(PhasePlan& phase, std::uint32_t op);
  void emit_with_lazy(PhasePlan& phase, std::uint32_t op);
  void mark_coalescing(PhasePlan& phase) const;
  void overwrite_operands();
  void find_homes();
  void place_values(PhasePlan& phase, bool online);
  void bound_messages(PhasePlan& phase);
  void add_demands(PhasePlan& phase, bool online);
  void check_limits() const;

  const Program& p_;
  const std::vector<net::EndpointInfo>& endpoints_;
  const PlanOptions& options_;
  kernels::Demand shared_;  // the most of every op: working memory is used again
  Plan plan_;
  std::vector<std::vector<std::uint32_t>> sends_;  // per value: transfers to other endpoints
  std::vector<bool> alias_;                        // per op at a place of this endpoint
  std::vector<bool> lazy_;
  std::vector<bool> emitted_;
  std::vector<bool> used_by_runs_;  // per root
};

void Planner::find_sends() {
  sends_.resize(p_.values.size());
  for (std::uint32_t i = 0; i < p_.ops.size(); ++i) {
    if (!p_.is_transfer(i)) continue;
    const Message& m = p_.messages[p_.message_of_op[i]];
    if (mine(m.from) && !mine(m.to)) sends_[p_.ops[i].operands[0]].push_back(i);
  }
}

// What needs no bytes of its own. A slice that is sent has a buffer: of a larger one the transport
// would keep more than it has queued. So has one of the setup, which would keep whole weights.
void Planner::find_roots() {
  const std::size_t n = p_.values.size();
  std::vector<bool> sent(n, false);  // itself, or as another shape
  alias_.assign(p_.ops.size(), false);
  for (std::uint32_t v = 0; v < n; ++v) sent[v] = !sends_[v].empty();
  for (std::uint32_t i = static_cast<std::uint32_t>(p_.ops.size()); i-- > 0;) {
    const Op& op = p_.ops[i];
    if (!mine(p_.steps[i].place)) continue;
    const bool same = op.code == OpCode::Reshape ||
                      (p_.is_transfer(i) && mine(p_.messages[p_.message_of_op[i]].from));
    alias_[i] = same;
    if (same && sent[op.results[0]]) sent[op.operands[0]] = true;
  }
  plan_.root.resize(n);
  plan_.shift.assign(n, 0);
  used_by_runs_.assign(n, false);
  for (std::uint32_t v = 0; v < n; ++v) plan_.root[v] = v;
  for (std::uint32_t i = 0; i < p_.ops.size(); ++i) {
    const Op& op = p_.ops[i];
    if (!mine(p_.steps[i].place)) continue;
    std::size_t start = 0;
    if (op.code == OpCode::Slice && p_.steps[i].online && !sent[op.results[0]]) {
      const ValueType& whole = p_.values[plan_.root[op.operands[0]]];
      const auto found = kernels::slice_start(op, p_.values[op.operands[0]]);
      alias_[i] = found && p_.values[op.results[0]].bytes() >= whole.bytes() / kLeastPart;
      start = found.value_or(0);
    }
    if (alias_[i]) {
      plan_.root[op.results[0]] = plan_.root[op.operands[0]];
      plan_.shift[op.results[0]] = plan_.shift[op.operands[0]] + start;
    }
    if (p_.steps[i].online && !(p_.is_transfer(i) && !alias_[i]))
      for (const std::uint32_t v : op.operands)
        if (!p_.steps[p_.producer[plan_.root[v]]].online) used_by_runs_[plan_.root[v]] = true;
  }
}

// Ops that can wait until somebody needs them: they need no message and no input, and nobody else
// waits for them.
void Planner::find_lazy() {
  lazy_.assign(p_.ops.size(), false);
  for (std::uint32_t i = 0; i < p_.ops.size(); ++i) {
    const Op& op = p_.ops[i];
    const Step& step = p_.steps[i];
    if (!mine(step.place) || step.depth != 0 || op.code == OpCode::Input ||
        op.code == OpCode::Output || p_.is_transfer(i))
      continue;
    bool lazy = true;
    for (const std::uint32_t v : op.operands) {
      const std::uint32_t from = p_.producer[v];
      lazy = lazy && (lazy_[from] || p_.steps[from].online != step.online);
    }
    for (const std::uint32_t v : op.results)
      lazy = lazy && sends_[v].empty() && !(!step.online && used_by_runs_[plan_.root[v]]);
    lazy_[i] = lazy;
  }
}

void Planner::emit(PhasePlan& phase, std::uint32_t index) {
  const Op& op = p_.ops[index];
  Action action;
  action.op = index;
  if (is_alias(index)) {
    action.kind = Action::Kind::alias;
  } else if (p_.is_transfer(index)) {
    const Message& m = p_.messages[p_.message_of_op[index]];
    action.kind = Action::Kind::receive;
    action.peer = endpoint(m.from);
    phase.expected.push_back({action.peer, m.id, m.bytes, m.depth});
  }
  phase.actions.push_back(std::move(action));
  emitted_[index] = true;
  for (const std::uint32_t v : op.results)
    for (const std::uint32_t transfer : sends_[v]) {
      Action send;
      send.kind = Action::Kind::send;
      send.op = transfer;
      send.peer = endpoint(p_.steps[transfer].place);
      phase.actions.push_back(std::move(send));
    }
}

void Planner::emit_with_lazy(PhasePlan& phase, std::uint32_t index) {
  // Depth first without recursion: chains of lazy ops may be long. With every op, which of its
  // operands is looked at next: none is twice, however many there are.
  std::vector<std::pair<std::uint32_t, std::size_t>> stack = {{index, 0}};
  while (!stack.empty()) {
    auto& [op, next] = stack.back();
    const std::vector<std::uint32_t>& operands = p_.ops[op].operands;
    if (p_.is_transfer(op) && !is_alias(op)) next = operands.size();
    if (next < operands.size()) {
      const std::uint32_t from = p_.producer[operands[next++]];
      if (lazy_[from] && !emitted_[from] && p_.steps[from].online == p_.steps[op].online)
        stack.emplace_back(from, 0);
      continue;
    }
    const std::uint32_t done = op;
    stack.pop_back();
    if (!emitted_[done]) emit(phase, done);
  }
}

void Planner::order_phase(bool online) {
  PhasePlan& phase = online ? plan_.online : plan_.setup;
  std::vector<std::uint32_t> order;
  for (const Place place : plan_.places)
    for (const std::uint32_t op : p_.order[index_of(place)])
      if (p_.steps[op].online == online) order.push_back(op);
  // Input shares first: they are all there before the clock starts.
  const auto is_share = [&](std::uint32_t op) {
    if (!p_.is_transfer(op) || is_alias(op) || p_.steps[op].depth != 1) return false;
    return plan_.self != plan_.driver &&
           endpoint(p_.messages[p_.message_of_op[op]].from) == plan_.driver;
  };
  std::ranges::sort(order, {}, [&](std::uint32_t op) {
    return std::tuple(!is_share(op), p_.steps[op].depth, op);
  });
  bool sharing = true;
  for (const std::uint32_t op : order) {
    const bool share = plan_.self == plan_.driver ? p_.steps[op].depth == 0 : is_share(op);
    if (sharing && !share) {
      sharing = false;
      phase.sharing_ends = phase.actions.size();
    }
    if (!lazy_[op]) emit_with_lazy(phase, op);
  }
  if (sharing) phase.sharing_ends = phase.actions.size();
  mark_coalescing(phase);
}

void Planner::mark_coalescing(PhasePlan& phase) const {
  std::map<std::uint32_t, std::pair<std::size_t, std::size_t>> next;  // peer -> (position, work)
  std::size_t work = 0;
  for (std::size_t i = phase.actions.size(); i-- > 0;) {
    Action& a = phase.actions[i];
    if (a.kind == Action::Kind::receive || kernels::is_linear(p_.ops[a.op].code) ||
        i + 1 == phase.sharing_ends)
      next.clear();
    if (a.kind == Action::Kind::compute)
      for (const std::uint32_t v : p_.ops[a.op].results) work += p_.values[v].bytes();
    if (a.kind != Action::Kind::send) continue;
    const auto found = next.find(a.peer);
    a.more = found != next.end() && work - found->second.second <= kCoalesceBytes;
    next[a.peer] = {i, work};
  }
}

// Results of elementwise work in a run that are written over an operand of their type which nobody
// needs any more: half the memory to go through. What is sent stays as it is; the transport may
// read it later.
void Planner::overwrite_operands() {
  const std::vector<Action>& actions = plan_.online.actions;
  std::vector<std::size_t> last(p_.values.size(), 0);  // per root: action
  std::vector<bool> sent(p_.values.size(), false);     // per root
  std::vector<bool> received(p_.values.size(), false);
  for (std::uint32_t v = 0; v < p_.values.size(); ++v)
    if (!sends_[v].empty()) sent[plan_.root[v]] = true;
  for (std::size_t i = 0; i < actions.size(); ++i) {
    const Op& op = p_.ops[actions[i].op];
    if (actions[i].kind != Action::Kind::receive)
      for (const std::uint32_t v : op.operands) last[plan_.root[v]] = i;
    if (actions[i].kind == Action::Kind::receive) received[op.results[0]] = true;
  }
  // Roots that have moved into another one.
  std::vector<std::uint32_t> moved(p_.values.size());
  for (std::uint32_t v = 0; v < p_.values.size(); ++v) moved[v] = v;
  const auto root_of = [&](std::uint32_t v) { return moved[plan_.root[v]]; };
  for (std::size_t i = 0; i < actions.size(); ++i) {
    const Op& op = p_.ops[actions[i].op];
    if (actions[i].kind != Action::Kind::compute || !(op.body || spec_of(op.code).elementwise))
      continue;
    // Operands that end here and have all of a buffer to themselves.
    std::map<std::uint32_t, int> uses;
    for (const std::uint32_t v : op.operands) ++uses[root_of(v)];
    std::vector<std::size_t> ending;
    for (std::size_t k = 0; k < op.operands.size() && ending.size() < kMostEnding; ++k) {
      const std::uint32_t root = root_of(op.operands[k]);
      if (p_.steps[p_.producer[root]].online && last[root] == i && !sent[root] && uses[root] == 1 &&
          p_.values[op.operands[k]].lanes == p_.values[root].lanes)
        ending.push_back(k);
    }
    if (ending.empty()) continue;
    const kernels::InPlace in_place(op);
    for (std::size_t r = 0; r < op.results.size(); ++r) {
      const std::uint32_t result = op.results[r];
      const auto fits = [&](std::size_t k) {
        const std::uint32_t root = root_of(op.operands[k]);
        const ValueType& a = p_.values[result];
        const ValueType& b = p_.values[root];
        return a.kind == b.kind && a.lanes == b.lanes && a.planes == b.planes &&
               !(sent[result] && received[root]) && in_place.may_overwrite(k, r);
      };
      const auto found = std::ranges::find_if(ending, fits);
      if (found == ending.end()) continue;
      const std::uint32_t root = root_of(op.operands[*found]);
      moved[result] = root;
      last[root] = last[result];
      sent[root] = sent[result];
      ending.erase(found);
    }
  }
  for (std::uint32_t v = 0; v < p_.values.size(); ++v) plan_.root[v] = root_of(v);
}

void Planner::find_homes() {
  plan_.home.assign(p_.values.size(), Home::none);
  plan_.offset.assign(p_.values.size(), 0);
  std::vector<bool> sent(p_.values.size(), false);
  for (std::uint32_t v = 0; v < p_.values.size(); ++v)
    if (!sends_[v].empty()) sent[plan_.root[v]] = true;
  for (const PhasePlan* phase : {&plan_.setup, &plan_.online})
    for (const Action& a : phase->actions) {
      if (a.kind == Action::Kind::send || a.kind == Action::Kind::alias) continue;
      for (const std::uint32_t v : p_.ops[a.op].results) {
        if (plan_.root[v] != v) continue;
        Home& home = plan_.home[v];
        if (a.kind == Action::Kind::receive)
          home = Home::message;
        else if (used_by_runs_[v])
          home = Home::persistent;
        else
          home = sent[v] ? Home::outgoing : Home::arena;
        if (used_by_runs_[v]) plan_.persistent_bytes += held(p_.values[v].bytes());
      }
    }
}

void Planner::place_values(PhasePlan& phase, bool online) {
  std::map<std::uint32_t, std::size_t> last;  // root -> action
  for (std::size_t i = 0; i < phase.actions.size(); ++i) {
    const Action& a = phase.actions[i];
    const Op& op = p_.ops[a.op];
    if (a.kind != Action::Kind::receive)
      for (const std::uint32_t v : op.operands) last[plan_.root[v]] = i;
    if (a.kind != Action::Kind::send)
      for (const std::uint32_t v : op.results) last[plan_.root[v]] = i;
  }
  for (const auto& [root, i] : last) {
    const bool of_this_phase = p_.steps[p_.producer[root]].online == online;
    if (of_this_phase && !used_by_runs_[root]) phase.actions[i].ends.push_back(root);
  }
  Arena arena;
  for (const Action& a : phase.actions) {
    if (a.kind == Action::Kind::compute || a.kind == Action::Kind::receive)
      for (const std::uint32_t v : p_.ops[a.op].results) {
        const std::size_t bytes = p_.values[v].bytes();
        if (plan_.home[v] == Home::arena) plan_.offset[v] = arena.take(bytes);
      }
    for (const std::uint32_t root : a.ends) {
      const std::size_t bytes = p_.values[root].bytes();
      if (plan_.home[root] == Home::arena) arena.give(plan_.offset[root], bytes);
    }
  }
  phase.arena_bytes = arena.bytes();
}

void Planner::bound_messages(PhasePlan& phase) {
  // All of a phase, whatever the timing.
  std::size_t sent = 0;
  std::size_t received = 0;
  // What the program itself keeps alive of them, and how much may wait in queues beside that.
  std::size_t sent_alive = 0, most_sent_alive = 0;
  std::size_t received_alive = 0, most_received_alive = 0;
  std::size_t largest_received = 0;
  std::vector<std::size_t> to_peer(endpoints_.size(), 0);
  std::vector<std::size_t> largest_to_peer(endpoints_.size(), 0);
  for (const Action& a : phase.actions) {
    if (a.kind == Action::Kind::send) {
      const std::uint32_t root = plan_.root[p_.ops[a.op].operands[0]];
      const bool copied = plan_.home[root] != Home::outgoing;
      const std::size_t bytes = p_.values[root].bytes();
      const std::size_t size = copied ? held(bytes) : outgoing_class(bytes);
      if (copied) sent += size;
      to_peer[a.peer] += size;
      largest_to_peer[a.peer] = std::max(largest_to_peer[a.peer], size);
    } else if (a.kind != Action::Kind::alias) {
      for (const std::uint32_t v : p_.ops[a.op].results) {
        const std::size_t bytes = p_.values[v].bytes();
        if (plan_.home[v] == Home::outgoing) {
          sent += outgoing_class(bytes);
          sent_alive += outgoing_class(bytes);
          most_sent_alive = std::max(most_sent_alive, sent_alive);
        }
        if (plan_.home[v] == Home::message && !used_by_runs_[v]) {
          received += held(bytes);
          received_alive += held(bytes);
          most_received_alive = std::max(most_received_alive, received_alive);
          largest_received = std::max(largest_received, held(bytes));
        }
      }
    }
    for (const std::uint32_t root : a.ends) {
      const std::size_t bytes = p_.values[root].bytes();
      if (plan_.home[root] == Home::outgoing) sent_alive -= outgoing_class(bytes);
      if (plan_.home[root] == Home::message) received_alive -= held(bytes);
    }
  }
  std::size_t queued = 0;
  for (std::size_t e = 0; e < endpoints_.size(); ++e)
    queued += std::min(
        to_peer[e], std::max<std::size_t>(options_.limits.queue_bytes / 8 * 9, largest_to_peer[e]));
  phase.outgoing_bytes = std::min(sent, most_sent_alive + queued);
  // A frame is admitted when nothing else waits, or when it is the one that is waited for.
  phase.message_bytes =
      std::min(received, most_received_alive + options_.limits.ahead_bytes + largest_received);
}

void Planner::add_demands(PhasePlan& phase, bool online) {
  std::vector<ValueType> operands;
  std::vector<bool> constant;
  for (const Action& a : phase.actions) {
    const Op& op = p_.ops[a.op];
    operands.clear();
    constant.clear();
    std::uint64_t bytes = 0;
    for (const std::uint32_t v : op.operands) {
      operands.push_back(p_.values[v]);
      constant.push_back(online && !p_.steps[p_.producer[v]].online);
    }
    if (a.kind == Action::Kind::send || a.kind == Action::Kind::receive) {
      const std::uint64_t size = p_.messages[p_.message_of_op[a.op]].bytes;
      phase.work = kernels::sum_of(phase.work, size / 8 + 1);
      if (a.kind == Action::Kind::receive) bytes = size;
    }
    if (a.kind == Action::Kind::compute) {
      kernels::Demand d;
      try {
        d = kernels::demand_of(op, operands, constant, options_.threads);
      } catch (const Error& error) {
        throw error.within(p_.describe(a.op));
      }
      for (const std::uint32_t v : op.results) bytes += p_.values[v].bytes();
      if (op.code == OpCode::Output) {
        // Kept for the caller; those of the setup are copied into every run's.
        bytes += operands[0].bytes();
        phase.output_bytes += 2 * operands[0].bytes();
      }
      const auto threads = static_cast<std::uint64_t>(options_.threads);
      std::uint64_t own = d.region_scratch;
      for (std::size_t i = 0; i < d.ring.bytes.size(); ++i) {
        own = kernels::sum_of(own, d.ring.bytes[i]);
        shared_.ring.bytes[i] = std::max(shared_.ring.bytes[i], d.ring.bytes[i]);
      }
      shared_.region_scratch = std::max(shared_.region_scratch, d.region_scratch);
      bytes = kernels::sum_of(bytes, kernels::product_of(own, threads));
      bytes = kernels::sum_of(bytes, d.packed_bytes);
      bytes = kernels::sum_of(bytes, d.temporary_bytes);
      plan_.packed_bytes = kernels::sum_of(plan_.packed_bytes, d.packed_bytes);
      phase.temporary_bytes = std::max(phase.temporary_bytes, d.temporary_bytes);
      phase.work = kernels::sum_of(phase.work, d.work);
      if (d.work > plan_.largest_work.amount) plan_.largest_work = {a.op, d.work};
    }
    if (bytes > plan_.largest_memory.amount) plan_.largest_memory = {a.op, bytes};
  }
}

void Planner::check_limits() const {
  const std::string& name = endpoints_[plan_.self].name;
  const auto place = [&](std::uint32_t op) { return name + ", " + p_.describe(op); };
  const std::uint64_t peak = plan_.peak_bytes();
  if (peak > options_.limits.max_memory)
    throw Error("E-limit-memory",
                name + " would need " + bytes_text(peak) + " of memory, the limit is " +
                    bytes_text(options_.limits.max_memory) + "; the largest op needs " +
                    bytes_text(plan_.largest_memory.amount) + " (--max-memory raises the limit)",
                place(plan_.largest_memory.op) +
                    net::blame_text(name, p_.describe(plan_.largest_memory.op)));
  for (const PhasePlan* phase : {&plan_.setup, &plan_.online})
    if (phase->work > options_.limits.max_work)
      throw Error(
          "E-limit-work",
          name + " would do " + work_text(phase->work) + " multiply-adds in " +
              (phase == &plan_.setup ? "the setup" : "a run") + ", the limit is " +
              work_text(options_.limits.max_work) + "; the largest op does " +
              work_text(plan_.largest_work.amount) + " (--max-work raises the limit)",
          place(plan_.largest_work.op) + net::blame_text(name, p_.describe(plan_.largest_work.op)));
}

Plan Planner::run() {
  emitted_.assign(p_.ops.size(), false);
  find_sends();
  find_roots();
  find_lazy();
  order_phase(false);
  order_phase(true);
  overwrite_operands();
  find_homes();
  place_values(plan_.setup, false);
  place_values(plan_.online, true);
  for (PhasePlan* phase : {&plan_.setup, &plan_.online}) {
    bound_messages(*phase);
    add_demands(*phase, phase == &plan_.online);
  }
  std::uint64_t scratch = shared_.region_scratch;
  for (const std::size_t bytes : shared_.ring.bytes) scratch = kernels::sum_of(scratch, bytes);
  plan_.scratch_bytes = kernels::product_of(scratch, static_cast<std::uint64_t>(options_.threads));
  plan_.transport_bytes = net::kConnectionBytes * (endpoints_.size() - 1);
  check_limits();
  return std::move(plan_);
}

}  // namespace

std::size_t Plan::peak_bytes() const {
  std::uint64_t most = 0;
  for (const PhasePlan* phase : {&setup, &online}) {
    std::uint64_t sum = 0;
    // The arena only grows, and what was opened in the setup is kept.
    for (const std::uint64_t part :
         {std::max(setup.arena_bytes, phase->arena_bytes), phase->outgoing_bytes,
          phase->message_bytes, phase->temporary_bytes, setup.output_bytes + phase->output_bytes})
      sum = kernels::sum_of(sum, part);
    most = std::max(most, sum);
  }
  for (const std::uint64_t part : {persistent_bytes, packed_bytes, scratch_bytes, transport_bytes})
    most = kernels::sum_of(most, part);
  return most;
}

std::size_t outgoing_class(std::size_t bytes) noexcept {
  const std::size_t step = std::max<std::size_t>(64, std::bit_floor(bytes) / 8);
  return std::max<std::size_t>(64, (bytes + step - 1) / step * step);
}

Plan make_plan(const Program& program, const std::vector<net::EndpointInfo>& endpoints,
               std::uint32_t self, const PlanOptions& options) {
  return Planner(program, endpoints, self, options).run();
}

}  // namespace mpcc::graph
