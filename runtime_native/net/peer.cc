#include "net/peer.h"

#include <algorithm>
#include <cstring>
#include <new>
#include <utility>

#include "net/blame.h"

namespace mpcc::net {
namespace {

constexpr std::size_t kMaxWaitingControls = 64;
constexpr std::size_t kMaxReadyAhead = 2;
constexpr std::size_t kMaxAbortText = 1024;
// Waits frames and late ones that a peer may send in a run: an honest one sends at most four per
// deadline, and its deadline may be shorter.
constexpr std::uint64_t kMaxUseless = 64;
constexpr std::uint64_t kUselessPerDeadline = 8;

std::span<const std::byte> as_bytes(std::string_view text) {
  return {reinterpret_cast<const std::byte*>(text.data()), text.size()};
}

}  // namespace

std::string printable(std::span<const std::byte> text, std::size_t limit) {
  std::string out;
  for (std::byte b : text.first(std::min(limit, text.size()))) {
    const char c = static_cast<char>(b);
    out += (c >= 0x20 && c < 0x7f) ? c : '?';
  }
  return out;
}

std::string SessionState::step(std::uint32_t message) const {
  std::string text = "message " + std::to_string(message);
  if (options.step_name) {
    if (const std::string name = options.step_name(message); !name.empty())
      text += " (" + name + ")";
  }
  return text;
}

// A frame on its way out. It charges the queue until the link has dropped the last piece of it.
struct Peer::Queued {
  Queued(Peer& p, FrameHeader h, Payload content)
      : peer(p), header(h), payload(std::move(content)) {
    peer.queued_bytes_ += payload.size();  // the mutex is held by enqueue()
  }
  ~Queued() {
    const std::lock_guard lock(peer.state_.mutex);
    peer.queued_bytes_ -= payload.size();
    peer.state_.changed.notify_all();
  }
  Queued(const Queued&) = delete;
  Queued& operator=(const Queued&) = delete;

  Peer& peer;
  FrameHeader header;
  Payload payload;
};

Peer::Peer(SessionState& state, PeerIndex index, std::string name, LinkState link_state)
    : state_(state),
      index_(index),
      name_(std::move(name)),
      session_(link_state.session),
      authenticated_(link_state.link->authenticated()),
      sums_payloads_(link_state.link->needs_checksums()),
      next_sent_(link_state.sent_frames),
      next_received_(link_state.received_frames),
      owned_link_(std::move(link_state.link)),
      link_(owned_link_.get()) {}

bool Peer::has_room(std::size_t bytes) const {
  return queued_bytes_ == 0 || (queued_bytes_ <= state_.options.queue_bytes &&
                                bytes <= state_.options.queue_bytes - queued_bytes_);
}

void Peer::enqueue(std::deque<std::shared_ptr<Queued>>& queue, FrameHeader header,
                   Payload payload) {
  header.session = session_;
  header.payload_bytes = payload.size();
  pending_.fetch_add(kHeaderBytes + payload.size(), std::memory_order_relaxed);
  queue.push_back(std::make_shared<Queued>(*this, header, std::move(payload)));
}

void Peer::queue_data(const MessageHeader& header, Payload payload) {
  FrameHeader h;
  h.kind = FrameKind::data;
  h.run = header.run;
  h.message = header.message;
  h.depth = header.depth;
  enqueue(data_out_, h, std::move(payload));
}

void Peer::queue_control(FrameKind kind, RunId run, Payload payload) {
  FrameHeader h;
  h.kind = kind;
  h.run = run;
  enqueue(control_out_, h, std::move(payload));
}

void Peer::queue_bye() {
  FrameHeader h;
  h.kind = FrameKind::bye;
  h.run = state_.run.value_or(kSetupRun);
  enqueue(data_out_, h, {});
}

std::deque<std::shared_ptr<const void>> Peer::replace_queue_by_abort(const std::string& text) {
  std::deque<std::shared_ptr<const void>> dropped;
  for (auto* queue : {&control_out_, &data_out_}) {
    for (auto& item : *queue) dropped.emplace_back(std::move(item));
    queue->clear();
  }
  pending_.store(0, std::memory_order_relaxed);
  if (!ended_)
    queue_control(FrameKind::abort, state_.run.value_or(kSetupRun),
                  Payload::copy_of(as_bytes(std::string_view(text).substr(0, kMaxAbortText))));
  return dropped;
}

void Peer::take(std::vector<Chunk>& out) {
  std::vector<std::shared_ptr<Queued>> items;
  {
    const std::lock_guard lock(state_.mutex);
    items.assign(std::make_move_iterator(control_out_.begin()),
                 std::make_move_iterator(control_out_.end()));
    control_out_.clear();
    while (!data_out_.empty()) {
      const FrameHeader& h = data_out_.front()->header;
      // The peer reserves memory only for what it has declared: hold back what it cannot accept
      // yet.
      if (h.kind == FrameKind::data && (!ready_run_ || h.run > *ready_run_)) break;
      items.push_back(std::move(data_out_.front()));
      data_out_.pop_front();
    }
    for (const auto& item : items) {
      const std::size_t n = item->payload.size();
      pending_.fetch_sub(kHeaderBytes + n, std::memory_order_relaxed);
      stats_.framing_bytes_sent += kHeaderBytes;
      if (item->header.kind == FrameKind::data) {
        stats_.payload_bytes_sent += n;
        stats_.messages_sent += 1;
        stats_.max_depth = std::max(stats_.max_depth, item->header.depth);
      } else {
        stats_.framing_bytes_sent += n;
      }
    }
  }
  for (const auto& item : items) {
    item->header.has_checksum = item->header.kind != FrameKind::data || sums_payloads_;
    if (item->header.has_checksum) {
      Checksum sum;
      for (const auto& piece : item->payload.pieces()) sum.update(piece.bytes);
      item->header.payload_checksum = sum.digest();
    }
    item->header.sequence = next_sent_++;
    Chunk chunk;
    chunk.head = encode_header(item->header);
    chunk.head_bytes = kHeaderBytes;
    for (const auto& piece : item->payload.pieces()) {
      if (piece.bytes.empty()) continue;
      chunk.bytes = piece.bytes;
      chunk.owner = item;
      out.push_back(std::move(chunk));
      chunk = Chunk{};
    }
    if (chunk.head_bytes != 0) out.push_back(std::move(chunk));
  }
}

void Peer::declare(std::uint32_t message, std::uint64_t bytes, std::uint32_t depth) {
  Slot slot;
  slot.bytes = bytes;
  slot.depth = depth;
  inbox_.emplace(message, std::move(slot));
}

std::optional<std::uint32_t> Peer::unreceived() const {
  std::optional<std::uint32_t> first;
  for (const auto& [message, slot] : inbox_)
    if (slot.state != Slot::taken && (!first || message < *first)) first = message;
  return first;
}

void Peer::begin_run(RunId run) {
  inbox_.clear();
  if (!ready_run_ || *ready_run_ <= run) ready_ahead_ = 0;
  steps_done_ = 0;
  last_alive_.reset();
  waits_for_.reset();
  useless_ = 0;
  stats_.max_depth = 0;
}

Peer::Arrival Peer::arrival(std::uint32_t message) const {
  const auto it = inbox_.find(message);
  if (it == inbox_.end()) return Arrival::unknown;
  switch (it->second.state) {
    case Slot::awaited:
      return Arrival::awaited;
    case Slot::here:
      return Arrival::here;
    case Slot::taken:
      break;
  }
  return Arrival::taken;
}

Received Peer::take_message(std::uint32_t message) {
  Slot& slot = inbox_.at(message);
  slot.state = Slot::taken;
  state_.ahead -= slot.bytes;
  return {std::move(slot.payload), slot.depth};
}

bool Peer::control_here(FrameKind kind, RunId run) const {
  return std::any_of(controls_.begin(), controls_.end(),
                     [&](const Control& c) { return c.kind == kind && c.run == run; });
}

SecretBuffer Peer::take_control(FrameKind kind, RunId run) {
  const auto it = std::find_if(controls_.begin(), controls_.end(),
                               [&](const Control& c) { return c.kind == kind && c.run == run; });
  SecretBuffer payload = std::move(it->payload);
  controls_.erase(it);
  return payload;
}

PeerStatistics Peer::statistics() const {
  PeerStatistics s = stats_;
  const LinkCounters wire = link_->counters();
  s.wire_bytes_sent = wire.wire_bytes_sent;
  s.wire_bytes_received = wire.wire_bytes_received;
  s.writes = wire.writes;
  return s;
}

void Peer::claim_key(std::string_view holders, RunId run) {
  if (key_run_ && run < *key_run_)
    throw Error("E-net-key-reuse",
                "a key of run " + std::to_string(run) + " is asked for after keys of run " +
                    std::to_string(*key_run_) + "; a retry is a new run with a larger id",
                state_.self_name + ", peer " + name_);
  if (!key_run_ || run > *key_run_) {
    key_run_ = run;
    key_holders_.clear();
  }
  if (!key_holders_.emplace(holders).second)
    throw Error("E-net-key-reuse",
                "the key of holders " + std::string(holders) + " for run " + std::to_string(run) +
                    " has been derived before; keep it, its streams must not be used twice",
                state_.self_name + ", peer " + name_);
}

std::span<std::byte> Peer::prepare() noexcept {
  if (refused_) return {};
  if (header_waits_) {
    // A link that cannot wait.
    guarded([&] {
      admit(true);
      if (body_.empty()) finish_frame();
    });
    if (refused_) return {};
  }
  if (in_payload_) return body_.bytes().subspan(body_fill_);
  return std::span<std::byte>(head_).subspan(head_fill_);
}

void Peer::commit(std::size_t n) noexcept {
  last_heard_.set_now();
  guarded([&] {
    if (!in_payload_) {
      head_fill_ += n;
      if (head_fill_ == kHeaderBytes) {
        begin_frame();
        if (header_.kind == FrameKind::data) progress(kHeaderBytes);
        admit(false);
      }
    } else {
      if (header_.has_checksum) checksum_.update(body_.bytes().subspan(body_fill_, n));
      body_fill_ += n;
      if (header_.kind == FrameKind::data) progress(n);
    }
    if (in_payload_ && body_fill_ == body_.size()) finish_frame();
  });
}

void Peer::progress(std::size_t bytes) noexcept {
  last_progress_.set_now();
  received_work_.fetch_add(bytes, std::memory_order_relaxed);
}

bool Peer::paused() noexcept {
  if (refused_ || !header_waits_) return false;
  bool waits = false;
  guarded([&] {
    waits = !admit(false);
    if (!waits && body_.empty()) finish_frame();
  });
  return waits;
}

bool Peer::admit(bool force) {
  {
    const std::lock_guard lock(state_.mutex);
    held_back_ = false;
    const std::size_t bytes = header_.payload_bytes;
    if (header_.kind == FrameKind::data) {
      const auto slot = inbox_.find(header_.message);
      // Empty, or all there is, or waited for: anything else could wait for ever.
      const bool urgent =
          force || bytes == 0 || state_.ahead == 0 || (slot != inbox_.end() && slot->second.wanted);
      const std::size_t most = state_.options.ahead_bytes;
      if (!urgent && (state_.ahead > most || bytes > most - state_.ahead)) {
        held_back_ = header_waits_ = true;
        return false;
      }
      state_.ahead += bytes;
    }
  }
  header_waits_ = false;
  body_ = header_.kind == FrameKind::data ? state_.buffers.take(header_.payload_bytes)
                                          : SecretBuffer::uninitialized(header_.payload_bytes);
  body_fill_ = 0;
  checksum_ = Checksum{};
  in_payload_ = true;
  return true;
}

template <class F>
void Peer::guarded(F&& f) noexcept {
  try {
    f();
  } catch (const Error& e) {
    refused_ = true;
    body_.reset();
    state_.fail(e);
  } catch (const std::exception& e) {
    refused_ = true;
    state_.fail(Error("E-memory", e.what(), place_of_frame()));
  }
}

std::string Peer::place_of_frame() const {
  std::string text = state_.self_name + " <- " + name_;
  if (header_.kind == FrameKind::data)
    text += ", " + state_.step(header_.message) + " of run " + std::to_string(header_.run);
  else
    text += ", " + std::string(frame_kind_name(header_.kind)) + " frame";
  text += ", frame " + std::to_string(next_received_);
  const std::string kind(frame_kind_name(header_.kind));
  return text + blame_text(name_, header_.kind == FrameKind::data
                                      ? state_.place(header_.run, header_.message)
                                      : "run " + std::to_string(header_.run) + ", " + kind);
}

void Peer::refuse(const std::string& reason) const {
  throw Error("E-net-frame", "frame from " + name_ + " refused: " + reason, place_of_frame());
}

void Peer::begin_frame() {
  try {
    header_ = decode_header(head_);
  } catch (const Error& e) {
    throw Error(e.code(), "frame from " + name_ + " refused: " + e.message(),
                state_.self_name + " <- " + name_ + ", frame " + std::to_string(next_received_) +
                    blame_text(name_, "frame " + std::to_string(next_received_)));
  }
  if (header_.session != session_) refuse("it belongs to another session");
  if (header_.sequence < next_received_)
    refuse("sequence number " + std::to_string(header_.sequence) +
           " has been seen before (duplicated or replayed)");
  if (header_.sequence > next_received_)
    refuse("sequence number " + std::to_string(header_.sequence) + " where " +
           std::to_string(next_received_) + " is next (reordered, or a frame is missing)");
  {
    const std::lock_guard lock(state_.mutex);
    if (said_bye_) refuse("it comes after the goodbye");
    if (header_.kind == FrameKind::data)
      check_data_header();
    else if (header_.payload_bytes > kMaxControlBytes)
      refuse("control frame of " + std::to_string(header_.payload_bytes) + " bytes, at most " +
             std::to_string(kMaxControlBytes) + " are allowed");
    else if (header_.message != 0 || header_.depth != 0)
      refuse("control frame with a message id or a depth");
  }
}

void Peer::check_run() const {
  if (!state_.run || header_.run != *state_.run)
    refuse("its run is not the declared one" +
           (state_.run ? " (" + std::to_string(*state_.run) + ")" : std::string(" (none yet)")));
}

void Peer::check_data_header() const {
  if (!header_.has_checksum && !authenticated_)
    refuse("no payload checksum on a connection that does not authenticate");
  check_run();
  const auto it = inbox_.find(header_.message);
  if (it == inbox_.end()) refuse("no such message is expected from this peer");
  const Slot& slot = it->second;
  if (slot.state != Slot::awaited) refuse("this message has arrived before");
  if (header_.payload_bytes != slot.bytes)
    refuse("payload of " + std::to_string(header_.payload_bytes) + " bytes where " +
           std::to_string(slot.bytes) + " are expected");
  if (header_.depth != slot.depth)
    refuse("depth " + std::to_string(header_.depth) + " where " + std::to_string(slot.depth) +
           " is expected");
}

void Peer::finish_frame() {
  if (header_.has_checksum && checksum_.digest() != header_.payload_checksum)
    refuse("damaged payload: checksum does not match");
  ++next_received_;
  head_fill_ = 0;
  in_payload_ = false;
  std::unique_lock lock(state_.mutex);
  stats_.framing_bytes_received += kHeaderBytes;
  if (header_.kind != FrameKind::data) {
    stats_.framing_bytes_received += body_.size();
    accept_control(lock);
    return;
  }
  stats_.payload_bytes_received += body_.size();
  stats_.messages_received += 1;
  stats_.max_depth = std::max(stats_.max_depth, header_.depth);
  const auto it = inbox_.find(header_.message);
  // The table may have been replaced since the header was checked only by a caller that calls
  // expect() in the middle of a run, which expect() refuses; checked all the same.
  if (it == inbox_.end() || it->second.state != Slot::awaited)
    refuse("this message is not expected any more");
  waits_for_.reset();
  it->second.payload = std::move(body_);
  it->second.state = Slot::here;
  state_.changed.notify_all();
}

void Peer::accept_control(std::unique_lock<std::mutex>& lock) {
  switch (header_.kind) {
    case FrameKind::ready:
      if (!body_.empty()) refuse("ready frame with a payload");
      if (ready_run_ && header_.run <= *ready_run_)
        refuse("it was ready for run " + std::to_string(*ready_run_) + " before");
      // Runs follow each other closely, but nobody is far ahead of the others.
      if (!state_.run || header_.run > *state_.run) {
        if (ready_ahead_ == kMaxReadyAhead)
          refuse("it is ready for more than " + std::to_string(kMaxReadyAhead) +
                 " runs that this side has not begun");
        ++ready_ahead_;
      }
      ready_run_ = header_.run;
      state_.changed.notify_all();
      lock.unlock();
      if (pending_bytes() != 0) link_->kick();
      return;
    case FrameKind::go:
    case FrameKind::key_seed:
      if (state_.run && header_.run < *state_.run)
        refuse("run " + std::to_string(header_.run) + " is over");
      if (controls_.size() >= kMaxWaitingControls)
        refuse("more than " + std::to_string(kMaxWaitingControls) +
               " control frames are waiting to be taken");
      controls_.push_back({header_.kind, header_.run, std::move(body_)});
      state_.changed.notify_all();
      return;
    case FrameKind::bye:
      if (!body_.empty()) refuse("bye frame with a payload");
      said_bye_ = true;
      state_.changed.notify_all();
      return;
    case FrameKind::abort: {
      // A sentence that says who stopped, at which step and why; perhaps passed on by this peer.
      const std::string text = printable(body_.bytes(), kMaxAbortText);
      refused_ = true;  // nothing that follows is of interest
      lock.unlock();
      state_.fail(Error("E-net-aborted", text, "reported by " + name_));
      return;
    }
    case FrameKind::alive:
      accept_alive();
      return;
    case FrameKind::waits:
      accept_waits();
      return;
    case FrameKind::hello:
    case FrameKind::data:
      break;
  }
  refuse("not allowed at this point");
}

// Of a run that is over here: its sender could not know that yet.
bool Peer::is_late() const { return state_.run && header_.run < *state_.run; }

void Peer::count_useless() {
  const double deadlines = std::chrono::duration<double>(Clock::now() - state_.run_began) /
                           std::chrono::duration<double>(state_.options.deadline);
  const double most = kMaxUseless + kUselessPerDeadline * deadlines;
  if (static_cast<double>(++useless_) > most)
    refuse("too many waits frames and frames of runs that are over: " + std::to_string(useless_) +
           " in this run");
}

void Peer::accept_alive() {
  if (body_.size() != kAliveBytes)
    refuse("alive frame of " + std::to_string(body_.size()) + " bytes where " +
           std::to_string(kAliveBytes) + " are expected");
  if (is_late()) return count_useless();
  check_run();
  std::uint64_t steps = 0;
  std::memcpy(&steps, body_.data(), sizeof steps);
  // Growing and bounded: a peer prolongs a wait only so many times.
  if (steps <= steps_done_)
    refuse("it has completed " + std::to_string(steps) + " steps, after " +
           std::to_string(steps_done_));
  if (steps > state_.most_steps)
    refuse("it has completed " + std::to_string(steps) + " steps of at most " +
           std::to_string(state_.most_steps));
  steps_done_ = steps;
  last_alive_ = Clock::now();
  waits_for_.reset();
  state_.changed.notify_all();
}

void Peer::accept_waits() {
  if (body_.size() != kWaitsBytes)
    refuse("waits frame of " + std::to_string(body_.size()) + " bytes where " +
           std::to_string(kWaitsBytes) + " are expected");
  count_useless();
  if (is_late()) return;
  check_run();
  PeerIndex awaited = 0;
  std::memcpy(&awaited, body_.data(), sizeof awaited);
  if (awaited >= state_.endpoint_count)
    refuse("it waits for endpoint " + std::to_string(awaited) + " of " +
           std::to_string(state_.endpoint_count));
  // Of use for words only: nobody waits longer for it.
  waits_for_ = awaited;
}

void Peer::closed(const std::string& reason) noexcept {
  try {
    bool expected = false;
    std::string where;
    {
      const std::lock_guard lock(state_.mutex);
      ended_ = true;
      expected = said_bye_ || state_.closed || state_.failure.has_value();
      where = state_.self_name + " <- " + name_;
      if (in_payload_)
        where = "after " + std::to_string(body_fill_) + " of " + std::to_string(body_.size()) +
                " bytes, " + place_of_frame();
      else
        where += ", after " + std::to_string(next_received_) + " frames" +
                 blame_text(name_, state_.run ? "run " + std::to_string(*state_.run)
                                              : std::string("before the first run"));
      state_.changed.notify_all();
    }
    if (expected)
      link_->shut();
    else  // which shuts all links, after telling the peers
      state_.fail(Error("E-net-lost", "the connection to " + name_ + " ended: " + reason, where));
  } catch (const std::exception& e) {
    state_.fail(Error("E-memory", e.what()));
  }
}

}  // namespace mpcc::net
