#include "net/endpoint.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "base/checked.h"
#include "net/blame.h"
#include "net/keys.h"

namespace mpcc::net {
namespace {

std::string seconds_text(Duration d) {
  const double s = std::chrono::duration<double>(d).count();
  std::string text = std::to_string(s);
  text.erase(text.find_last_not_of('0') + 1);
  if (text.back() == '.') text.pop_back();
  return text + " s";
}

// What fits an abort frame, with the end that says who and where.
std::string shortened(const std::string& text) {
  constexpr std::size_t kMost = 1024;
  constexpr std::size_t kEnd = 400;
  if (text.size() <= kMost) return text;
  return text.substr(0, kMost - kEnd - 5) + " ... " + text.substr(text.size() - kEnd);
}

}  // namespace

std::string SessionState::place(RunId at, std::uint32_t message) const {
  return "run " + std::to_string(at) + ", " + step(message);
}

Endpoint::Endpoint(PeerIndex self, std::vector<EndpointInfo> endpoints,
                   std::vector<LinkState> links, TransportOptions opts)
    : SessionState(std::move(opts)), self_(self), endpoints_(std::move(endpoints)) {
  require(self < endpoints_.size() && links.size() == endpoints_.size(), "E-net-usage",
          "one link per endpoint is needed");
  self_name = endpoints_[self].name;
  endpoint_count = static_cast<std::uint32_t>(endpoints_.size());
  peers_.resize(links.size());
  for (PeerIndex i = 0; i < links.size(); ++i) {
    if (i == self) continue;
    if (options.decorate) links[i].link = options.decorate(std::move(links[i].link), self, i);
    peers_[i] = std::make_unique<Peer>(static_cast<SessionState&>(*this), i, endpoints_[i].name,
                                       std::move(links[i]));
  }
  for (auto& p : peers_)
    if (p) p->start();
}

Endpoint::~Endpoint() {
  bool orderly = false;
  {
    const std::lock_guard lock(mutex);
    orderly = closed || failure;
  }
  if (!orderly)
    fail(Error("E-net-aborted", self_name + " left before the session was finished" +
                                    blame_text(self_name, "leaving")));
  // All links have been shut; each destructor waits a moment for its last bytes.
  for (auto& p : peers_) p.reset();
}

Peer& Endpoint::peer_at(PeerIndex peer) const {
  if (peer >= peers_.size() || !peers_[peer]) usage("no peer with index " + std::to_string(peer));
  return *peers_[peer];
}

void Endpoint::usage(const std::string& message) const {
  throw Error("E-net-usage", message, self_name);
}

void Endpoint::check_open(const std::string& doing) const {
  // What failed comes before what this side happened to be doing.
  if (failure) throw failure->within(find_blame(*failure) ? without_blame(doing) : doing);
  if (closed || closing) throw Error("E-net-closed", "this transport has been closed", doing);
}

void Endpoint::check() const {
  const std::lock_guard lock(mutex);
  check_open("computing");
}

void Endpoint::fail(const Error& error) noexcept {
  // Dropped after the mutex is released: a queued frame takes it in its destructor.
  std::deque<std::shared_ptr<const void>> dropped;
  {
    const std::lock_guard lock(mutex);
    if (failure || closed) return;
    failure = error;
    // An abort is passed on as it is: whoever learns of it second hand learns the same, and before
    // this endpoint's connections end.
    const std::string text =
        shortened(error.code() == "E-net-aborted" ? error.message()
                                                  : self_name + " stopped: " + error.what());
    for (auto& p : peers_) {
      if (!p) continue;
      auto items = p->replace_queue_by_abort(text);
      std::move(items.begin(), items.end(), std::back_inserter(dropped));
    }
    changed.notify_all();
  }
  dropped.clear();
  for (auto& p : peers_)
    if (p) p->link().shut();
}

template <class Ready, class Describe>
std::unique_lock<std::mutex> Endpoint::wait_for(Peer& peer, RunId of_run, Duration limit,
                                                Towards direction, Ready ready, Describe describe) {
  // Nothing that a peer may be waiting for stays behind while this thread waits.
  flush();
  std::unique_lock lock(mutex);
  auto start = Clock::now();
  const auto spin_end = start + options.spin;
  const auto moved = [&] {
    return direction == Towards::us ? peer.received_work() : peer.link().counters().wire_bytes_sent;
  };
  std::uint64_t moved_before = moved();
  std::uint64_t moved_last = moved_before;
  auto last_write = start;
  bool told = false;
  // Of a run that has begun: a wait for the next one is none of this one.
  const auto run_end =
      run && of_run == *run ? run_began + options.run_limit : Clock::time_point::max();
  const auto done = [&] {
    check_open(failure || closed || closing ? describe() : std::string());
    return ready();
  };
  while (!done()) {
    const auto now = Clock::now();
    // Whoever tells that it goes on with its own work begins the wait anew, and only the wait for
    // itself.
    if (const auto alive = peer.last_alive(); alive && *alive > start) {
      start = *alive;
      moved_before = moved();
      told = false;
    }
    if (now < spin_end) {
      lock.unlock();
      for (auto& p : peers_)
        if (p) p->link().poll();
      std::this_thread::yield();
      lock.lock();
      continue;
    }
    // Early enough to be known to whoever waits for this endpoint when it gives up.
    if (!told && now >= start + limit / 2) {
      told = true;
      lock.unlock();
      tell_waits(peer.index());
      lock.lock();
      continue;
    }
    std::optional<Error> problem;
    const std::uint64_t bytes = moved();
    if (bytes != std::exchange(moved_last, bytes)) last_write = now;
    const auto silent_since =
        std::max(start, direction == Towards::us ? peer.last_progress() : last_write);
    const auto slowest = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
        static_cast<double>(bytes - moved_before) / static_cast<double>(options.least_rate)));
    const auto deadline = std::min({silent_since + limit, start + limit + slowest, run_end});
    if (peer.said_bye())
      problem = Error("E-net-closed", peer.name() + " has finished and will send nothing more",
                      describe());
    else if (now >= deadline) {
      std::string text =
          now >= run_end
              ? "run " + std::to_string(of_run) + " has not ended within " +
                    seconds_text(options.run_limit) + ", the limit of a run (run_limit_s)"
          : bytes == moved_before
              ? (direction == Towards::us ? "nothing from " + peer.name()
                                          : peer.name() + " has taken nothing") +
                    " for " + seconds_text(limit)
              : peer.name() + " is too slow: " + std::to_string(bytes - moved_before) +
                    " bytes since the beginning of the wait, the deadline is " +
                    seconds_text(limit) + " and the least rate " +
                    std::to_string(options.least_rate) + " bytes per second";
      std::string where = describe();
      if (const Peer& other = culprit(peer); &other != &peer) {
        text += "; it says that it waits for " + other.name();
        // Nobody can prove what it says. Whoever is silent as well is named; of somebody who is
        // heard it is no excuse.
        const bool heard = now - other.last_heard() < limit / 2;
        if (heard) text += ", which is heard";
        const auto blame = find_blame(Error("", "", where));
        if (blame && !heard) where = without_blame(where) + blame_text(other.name(), blame->step);
      }
      problem = Error("E-net-timeout", text, where);
    }
    if (problem) {
      lock.unlock();
      fail(*problem);
      lock.lock();
      if (failure) throw *failure;
      throw *problem;
    }
    // Writes do not wake anybody before a whole message has left.
    const auto wake = told ? deadline : std::min<Clock::time_point>(deadline, start + limit / 2);
    changed.wait_until(lock, direction == Towards::us ? wake : std::min(wake, now + limit / 8));
  }
  return lock;
}

void Endpoint::expect(RunId new_run, std::span<const Expected> table, std::uint64_t steps) {
  const std::string doing = self_name + ", declaring run " + std::to_string(new_run);
  for (const Expected& e : table) {
    peer_at(e.peer);
    (void)narrow<std::size_t>(e.bytes, doing);
  }
  {
    const std::lock_guard lock(mutex);
    check_open(doing);
    if (run && new_run <= *run)
      usage("run " + std::to_string(new_run) + " is declared after run " + std::to_string(*run) +
            "; run ids must grow");
    for (const auto& p : peers_) {
      if (!p) continue;
      if (const auto message = p->unreceived())
        usage("run " + std::to_string(new_run) + " is declared while " + step(*message) + " from " +
              p->name() + " of run " + std::to_string(*run) + " has not been received");
    }
    for (auto& p : peers_)
      if (p) p->begin_run(new_run);
    for (const Expected& e : table) {
      Peer& p = *peers_[e.peer];
      if (p.is_declared(e.message)) {
        for (auto& q : peers_)
          if (q) q->begin_run(new_run);
        usage(step(e.message) + " from " + p.name() + " is declared twice");
      }
      p.declare(e.message, e.bytes, e.depth);
    }
    run = new_run;
    run_began = Clock::now();
    most_steps = steps;
    for (auto& p : peers_)
      if (p) p->queue_control(FrameKind::ready, new_run, {});
  }
  for (auto& p : peers_)
    if (p) p->link().push();
}

void Endpoint::send(PeerIndex to, const MessageHeader& header, Payload payload) {
  Peer& peer = peer_at(to);
  const auto describe = [&] {
    return self_name + " -> " + peer.name() + ", sending " + step(header.message) + " of run " +
           std::to_string(header.run) + blame_text(peer.name(), place(header.run, header.message));
  };
  {
    std::unique_lock lock(mutex);
    check_open(failure || closed || closing ? describe() : std::string());
    if (!peer.has_room(payload.size())) {
      lock.unlock();
      lock = wait_for(
          peer, header.run, options.deadline, Towards::peer,
          [&] { return peer.has_room(payload.size()); }, describe);
    }
    peer.queue_data(header, std::move(payload));
  }
  if (!header.more) peer.link().push();
}

Received Endpoint::receive(PeerIndex from, RunId of_run, std::uint32_t message, std::uint64_t bytes,
                           std::optional<Duration> deadline) {
  Peer& peer = peer_at(from);
  const auto describe = [&] {
    return self_name + " waiting for " + step(message) + " from " + peer.name() + ", run " +
           std::to_string(of_run) + blame_text(peer.name(), place(of_run, message));
  };
  {
    const std::lock_guard lock(mutex);
    check_open(failure || closed || closing ? describe() : std::string());
    if (!run || of_run != *run)
      usage("receive() of run " + std::to_string(of_run) + ", which is not the declared one");
    switch (peer.arrival(message)) {
      case Peer::Arrival::unknown:
        usage(step(message) + " from " + peer.name() + " is received without having been declared");
      case Peer::Arrival::taken:
        usage(step(message) + " from " + peer.name() + " is received twice");
      case Peer::Arrival::awaited:
      case Peer::Arrival::here:
        break;
    }
    if (peer.declared_bytes(message) != bytes)
      usage(step(message) + " from " + peer.name() + " is declared with " +
            std::to_string(peer.declared_bytes(message)) + " bytes and received with " +
            std::to_string(bytes));
    peer.want(message);
  }
  resume_links();
  Received received;
  {
    const auto lock = wait_for(
        peer, of_run, deadline.value_or(options.deadline), Towards::us,
        [&] { return peer.arrival(message) == Peer::Arrival::here; }, describe);
    received = peer.take_message(message);
  }
  resume_links();
  return received;
}

void Endpoint::resume_links() {
  for (auto& p : peers_) {
    if (!p) continue;
    bool waits = false;
    {
      const std::lock_guard lock(mutex);
      waits = p->held_back();
    }
    if (waits) p->link().resume();
  }
}

bool Endpoint::arrived(PeerIndex from, RunId of_run, std::uint32_t message) {
  Peer& peer = peer_at(from);
  const std::lock_guard lock(mutex);
  check_open(self_name);
  return run && *run == of_run && peer.arrival(message) == Peer::Arrival::here;
}

void Endpoint::wait_ready(RunId of_run, std::optional<Duration> deadline) {
  for (auto& p : peers_) {
    if (!p) continue;
    wait_for(
        *p, of_run, deadline.value_or(options.deadline), Towards::us,
        [&] { return p->ready_run() && *p->ready_run() >= of_run; },
        [&] {
          return self_name + " waiting for " + p->name() + " to be ready for run " +
                 std::to_string(of_run) +
                 blame_text(p->name(), "run " + std::to_string(of_run) + ", ready");
        });
  }
}

void Endpoint::send_control(PeerIndex to, FrameKind kind, RunId of_run,
                            std::span<const std::byte> payload) {
  Peer& peer = peer_at(to);
  if (kind != FrameKind::go && kind != FrameKind::key_seed)
    usage(std::string(frame_kind_name(kind)) + " frames are not sent by send_control()");
  if (payload.size() > kMaxControlBytes)
    usage("control payload of " + std::to_string(payload.size()) + " bytes, at most " +
          std::to_string(kMaxControlBytes));
  {
    const std::lock_guard lock(mutex);
    check_open(self_name + " -> " + peer.name() + ", " + std::string(frame_kind_name(kind)));
    peer.queue_control(kind, of_run, Payload::copy_of(payload));
  }
  peer.link().push();
}

SecretBuffer Endpoint::receive_control(PeerIndex from, FrameKind kind, RunId of_run,
                                       std::optional<Duration> deadline) {
  Peer& peer = peer_at(from);
  if (kind != FrameKind::go && kind != FrameKind::key_seed)
    usage(std::string(frame_kind_name(kind)) + " frames are received by the transport itself");
  const auto lock = wait_for(
      peer, of_run, deadline.value_or(options.deadline), Towards::us,
      [&] { return peer.control_here(kind, of_run); },
      [&] {
        return self_name + " waiting for the " + std::string(frame_kind_name(kind)) + " frame of " +
               peer.name() + ", run " + std::to_string(of_run) +
               blame_text(peer.name(), "run " + std::to_string(of_run) + ", " +
                                           std::string(frame_kind_name(kind)));
      });
  return peer.take_control(kind, of_run);
}

void Endpoint::send_alive(PeerIndex to, RunId of_run, std::uint64_t steps) {
  Peer& peer = peer_at(to);
  {
    const std::lock_guard lock(mutex);
    check_open(self_name + " -> " + peer.name() + ", alive");
    if (peer.ready_run() != of_run) return;
    peer.queue_control(FrameKind::alive, of_run,
                       Payload::copy_of(std::as_bytes(std::span(&steps, 1))));
  }
  peer.link().push();
}

void Endpoint::tell_waits(PeerIndex awaited) {
  std::vector<Peer*> told;
  {
    const std::lock_guard lock(mutex);
    if (failure || closed || closing || !run) return;
    for (auto& p : peers_) {
      if (!p || p->index() == awaited || p->ready_run() != run) continue;
      p->queue_control(FrameKind::waits, *run,
                       Payload::copy_of(std::as_bytes(std::span(&awaited, 1))));
      told.push_back(p.get());
    }
  }
  for (Peer* p : told) p->link().push();
}

const Peer& Endpoint::culprit(const Peer& peer) const {
  const Peer* at = &peer;
  for (std::size_t hops = 0; hops < peers_.size(); ++hops) {
    const auto next = at->waits_for();
    if (!next) return *at;
    // Whoever waits for this endpoint, or in a circle, has nobody else to blame.
    if (*next == self_ || !peers_[*next]) return peer;
    at = peers_[*next].get();
  }
  return peer;
}

void Endpoint::flush() {
  for (auto& p : peers_)
    if (p && p->pending_bytes() != 0) p->link().push();
}

void Endpoint::abort(std::string_view at, std::string_view reason) {
  fail(Error("E-net-aborted", self_name + " aborted at " + std::string(at) + ": " +
                                  std::string(reason) + blame_text(self_name, at)));
}

void Endpoint::close(Duration wait) {
  {
    const std::lock_guard lock(mutex);
    if (failure || closed || closing) return;
    closing = true;
    for (auto& p : peers_)
      if (p) p->queue_bye();
  }
  flush();
  {
    std::unique_lock lock(mutex);
    changed.wait_for(lock, wait, [&] {
      return failure || std::all_of(peers_.begin(), peers_.end(),
                                    [](const auto& p) { return !p || p->finished(); });
    });
    if (failure) return;
    closed = true;
    changed.notify_all();
  }
  for (auto& p : peers_)
    if (p) p->link().shut();
}

PeerStatistics Endpoint::statistics(PeerIndex peer) const {
  Peer& p = peer_at(peer);
  const std::lock_guard lock(mutex);
  return p.statistics();
}

SecretBuffer Endpoint::export_key(PeerIndex peer, const std::string& label,
                                  std::span<const std::byte> context) {
  Peer& p = peer_at(peer);
  {
    const std::lock_guard lock(mutex);
    check_open(self_name + ", exporting a key shared with " + p.name());
  }
  SecretBuffer out(32);
  p.link().export_key(label, context, out.bytes());
  return out;
}

PrgKey Endpoint::derive_key(PeerIndex peer, std::string_view holders, RunId of_run,
                            const ProgramHash& program) {
  Peer& p = peer_at(peer);
  {
    const std::lock_guard lock(mutex);
    check_open(self_name + ", deriving the key of " + std::string(holders));
    p.claim_key(holders, of_run);
  }
  const std::uint64_t session = p.session();
  const SecretBuffer secret = export_key(
      peer, "EXPORTER-mpcc-prg", std::as_bytes(std::span<const std::uint64_t, 1>(&session, 1)));
  return derive_prg_key(secret.bytes(), session, holders, of_run, program);
}

}  // namespace mpcc::net
