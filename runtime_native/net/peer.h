// One endpoint's view of one peer: framing in both directions, the table of what may arrive, and
// what has arrived. Internal to the transport; see endpoint.h for the whole.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

#include "base/error.h"
#include "net/buffer_pool.h"
#include "net/frame.h"
#include "net/link.h"
#include "net/transport.h"

namespace mpcc::net {

using Clock = std::chrono::steady_clock;

// What the peers of one endpoint share.
class SessionState {
 public:
  explicit SessionState(TransportOptions opts) : options(std::move(opts)) {}
  // Ends the session and tells all peers; the first call wins. Safe inside a link's callbacks; the
  // mutex must not be held.
  virtual void fail(const Error& error) noexcept = 0;

  // "message 17 (%conv3)" for errors.
  std::string step(std::uint32_t message) const;
  // "run 3, message 17 (%conv3)" for find_blame().
  std::string place(RunId at, std::uint32_t message) const;

  const TransportOptions options;
  std::string self_name;
  BufferPool buffers;  // of received messages; has a mutex of its own
  std::uint32_t endpoint_count = 0;
  // Guards everything below here and the members of Peer that say so. Never held while a link is
  // called.
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::optional<Error> failure;
  std::optional<RunId> run;      // of the last expect()
  Clock::time_point run_began;   // when that was
  std::uint64_t most_steps = 0;  // of that expect()
  std::size_t ahead = 0;         // bytes of data frames admitted and not received by the caller
  bool closing = false;
  bool closed = false;

 protected:
  ~SessionState() = default;
};

// Where a link's stream stands when the session takes it over (after the hello exchange).
struct LinkState {
  std::unique_ptr<Link> link;
  std::uint64_t session = 0;
  std::uint64_t sent_frames = 0;
  std::uint64_t received_frames = 0;
};

class Peer final : public LinkSource, public LinkReceiver {
 public:
  Peer(SessionState& state, PeerIndex index, std::string name, LinkState link_state);
  Peer(const Peer&) = delete;
  Peer& operator=(const Peer&) = delete;

  void start() { link_->start(*this, *this); }
  Link& link() noexcept { return *link_; }
  PeerIndex index() const noexcept { return index_; }
  const std::string& name() const noexcept { return name_; }
  std::uint64_t session() const noexcept { return session_; }

  // --- outgoing; the mutex is held ---
  // Whether a message of that size may be queued now.
  bool has_room(std::size_t bytes) const;
  void queue_data(const MessageHeader& header, Payload payload);
  void queue_control(FrameKind kind, RunId run, Payload payload);
  // In line with the data that is queued before it.
  void queue_bye();
  // Takes what is queued out of the way (to be dropped by the caller without the mutex) and leaves
  // an abort frame.
  [[nodiscard]] std::deque<std::shared_ptr<const void>> replace_queue_by_abort(
      const std::string& text);

  // --- incoming; the mutex is held ---
  void declare(std::uint32_t message, std::uint64_t bytes, std::uint32_t depth);
  bool is_declared(std::uint32_t message) const { return inbox_.contains(message); }
  // The first message of the current run that nobody has received yet.
  std::optional<std::uint32_t> unreceived() const;
  void begin_run(RunId run);
  enum class Arrival { unknown, awaited, here, taken };
  Arrival arrival(std::uint32_t message) const;
  std::uint64_t declared_bytes(std::uint32_t message) const { return inbox_.at(message).bytes; }
  // Somebody waits for it now: it is admitted whatever else has arrived.
  void want(std::uint32_t message) { inbox_.at(message).wanted = true; }
  // Whether a frame is held back for want of room; Link::resume() looks at it again.
  bool held_back() const { return held_back_; }
  Received take_message(std::uint32_t message);
  bool control_here(FrameKind kind, RunId run) const;
  SecretBuffer take_control(FrameKind kind, RunId run);
  std::optional<RunId> ready_run() const { return ready_run_; }
  // When it last said, in the current run, that it is at work.
  std::optional<Clock::time_point> last_alive() const { return last_alive_; }
  // For whom it waited when it last said so, in the current run and after its last message.
  std::optional<PeerIndex> waits_for() const { return waits_for_; }
  // Has said goodbye. A stream that ends without it is a failure of the session.
  bool said_bye() const { return said_bye_; }
  // Nothing more will come.
  bool finished() const { return said_bye_ || ended_; }
  PeerStatistics statistics() const;
  // Refuses a second derivation of the same key; see Transport::derive_key.
  void claim_key(std::string_view holders, RunId run);

  // --- any thread ---
  // Only data frames bring a wait nearer to its end: when the last of their bytes came, and how
  // many came so far. Whatever else a peer sends, however much, prolongs nothing.
  Clock::time_point last_progress() const noexcept { return last_progress_.load(); }
  std::uint64_t received_work() const noexcept {
    return received_work_.load(std::memory_order_relaxed);
  }
  // When the last byte of any frame came.
  Clock::time_point last_heard() const noexcept { return last_heard_.load(); }

  // LinkSource
  void take(std::vector<Chunk>& out) override;
  std::size_t pending_bytes() const noexcept override {
    return pending_.load(std::memory_order_relaxed);
  }
  // LinkReceiver
  std::span<std::byte> prepare() noexcept override;
  bool paused() noexcept override;
  void commit(std::size_t n) noexcept override;
  void closed(const std::string& reason) noexcept override;

 private:
  // A time that one thread sets and others read.
  class Moment {
   public:
    void set_now() noexcept {
      at_.store(Clock::now().time_since_epoch().count(), std::memory_order_relaxed);
    }
    Clock::time_point load() const noexcept {
      return Clock::time_point(Clock::duration(at_.load(std::memory_order_relaxed)));
    }

   private:
    std::atomic<Clock::rep> at_{0};
  };
  struct Queued;
  struct Slot {
    std::uint64_t bytes = 0;
    std::uint32_t depth = 0;
    enum { awaited, here, taken } state = awaited;
    bool wanted = false;
    SecretBuffer payload;
  };
  struct Control {
    FrameKind kind;
    RunId run;
    SecretBuffer payload;
  };

  void enqueue(std::deque<std::shared_ptr<Queued>>& queue, FrameHeader header, Payload payload);
  void begin_frame();
  // Makes room for the payload of the frame that has begun. False when it has to wait.
  bool admit(bool force);
  template <class F>
  void guarded(F&& f) noexcept;
  void check_run() const;
  void check_data_header() const;
  void finish_frame();
  void accept_control(std::unique_lock<std::mutex>& lock);
  void accept_alive();
  void accept_waits();
  void progress(std::size_t bytes) noexcept;
  void count_useless();
  bool is_late() const;
  std::string place_of_frame() const;
  [[noreturn]] void refuse(const std::string& reason) const;

  SessionState& state_;
  const PeerIndex index_;
  const std::string name_;
  const std::uint64_t session_;
  // Of the link, asked once: see Link.
  const bool authenticated_;
  const bool sums_payloads_;

  // Outgoing: guarded by state_.mutex, except the sequence number, which only take() touches.
  std::deque<std::shared_ptr<Queued>> control_out_;
  std::deque<std::shared_ptr<Queued>> data_out_;
  std::size_t queued_bytes_ = 0;  // of payloads not yet written
  std::atomic<std::size_t> pending_{0};
  std::uint64_t next_sent_;

  // The frame that is arriving: touched by the link's callbacks only.
  HeaderBytes head_{};
  std::size_t head_fill_ = 0;
  bool header_waits_ = false;  // complete and checked; its payload is not admitted yet
  bool in_payload_ = false;
  bool refused_ = false;
  FrameHeader header_;
  SecretBuffer body_;
  std::size_t body_fill_ = 0;
  Checksum checksum_;
  std::uint64_t next_received_;
  Moment last_progress_;
  Moment last_heard_;
  std::atomic<std::uint64_t> received_work_{0};

  // Guarded by state_.mutex.
  std::unordered_map<std::uint32_t, Slot> inbox_;
  std::deque<Control> controls_;
  std::optional<RunId> ready_run_;
  std::size_t ready_ahead_ = 0;   // ready frames for runs that this side has not declared
  std::uint64_t steps_done_ = 0;  // as told by alive frames of the current run
  std::optional<Clock::time_point> last_alive_;
  std::optional<PeerIndex> waits_for_;
  std::uint64_t useless_ = 0;  // waits frames, and late ones, since the run began
  bool said_bye_ = false;
  bool ended_ = false;
  bool held_back_ = false;
  PeerStatistics stats_;
  std::optional<RunId> key_run_;
  std::set<std::string, std::less<>> key_holders_;

  // Last, so that it goes first: its callbacks use all of the above, also while it is being
  // destroyed, hence the plain pointer beside the owner.
  const std::unique_ptr<Link> owned_link_;
  Link* const link_;
};

// Printable ASCII, at most `limit` bytes: text that came from elsewhere, for an error message.
std::string printable(std::span<const std::byte> text, std::size_t limit);

}  // namespace mpcc::net
