// The transport of one endpoint: messages to and from its peers.
//
// An endpoint is a process (or, in tests, a part of one) that hosts one or more places; endpoints
// are numbered 0..n-1, and every endpoint has a link to every other one. Build one with
// connect_tls() (tls_transport.h) or make_in_memory_network() (memory.h).
//
// A run, seen from here:
//   t.expect(run, table)         what will arrive, exactly; tells the peers that they may send
//   t.send(peer, {...}, buffer)  returns at once
//   t.receive(peer, run, id, n)  waits for one declared message
//   t.close()                    or t.abort("step", "reason")
//
// Whatever a peer sends that was not declared (an unknown or repeated message, a wrong size, depth,
// run, session or sequence number) is refused before memory is reserved for it. The first problem
// on any link ends the session: all peers are told who stops where and why, every blocked call
// throws that Error at once, and so does every later call. A retry is a new session.
//
// Error codes: E-net-frame (a peer sent something wrong), E-net-timeout, E-net-lost (connection
// ended), E-net-aborted (a peer aborted), E-net-closed (a peer or this side has finished),
// E-net-usage (this side's caller is wrong), E-net-key-reuse; E-net-connect, E-net-tls and
// E-net-mismatch while connecting.
//
// All members may be called from any thread.
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/secret_buffer.h"
#include "net/frame.h"
#include "net/link.h"
#include "net/payload.h"

namespace mpcc::net {

using PeerIndex = std::uint32_t;
using RunId = std::uint64_t;
inline constexpr RunId kSetupRun = 0;  // the setup phase (weights); runs are 1, 2, 3, ...
using ProgramHash = std::array<std::byte, 32>;
// Most that a connection holds beside messages: TLS records in both directions, control frames.
inline constexpr std::size_t kConnectionBytes = std::size_t{2} << 20;
using PrgKey = std::array<std::byte, 16>;
using Duration = std::chrono::nanoseconds;

struct EndpointInfo {
  std::string name;
  std::vector<std::string> places;
};

struct MessageHeader {
  RunId run = 0;
  std::uint32_t message = 0;
  std::uint32_t depth = 0;
  // More messages to this peer follow right away: wait for them and write all together. Nothing
  // stays behind: the next send without it, and every call that waits, writes what is queued.
  bool more = false;
};

struct Expected {
  PeerIndex peer = 0;
  std::uint32_t message = 0;
  std::uint64_t bytes = 0;
  std::uint32_t depth = 0;
};

struct Received {
  SecretBuffer payload;
  std::uint32_t depth = 0;
};

struct PeerStatistics {
  std::uint64_t payload_bytes_sent = 0;  // payloads of data frames: what protocols are charged
  std::uint64_t payload_bytes_received = 0;
  std::uint64_t messages_sent = 0;
  std::uint64_t messages_received = 0;
  std::uint64_t framing_bytes_sent = 0;  // headers, and control frames as a whole
  std::uint64_t framing_bytes_received = 0;
  std::uint64_t wire_bytes_sent = 0;  // everything, with TLS records and handshake
  std::uint64_t wire_bytes_received = 0;
  std::uint64_t writes = 0;     // calls that handed bytes to the operating system
  std::uint32_t max_depth = 0;  // of data sent or received since the last expect()
};

struct TransportOptions {
  // Longest silence of a peer that somebody waits for, from the beginning of the waiting or from
  // the peer's last alive frame (send_alive()), whichever is later.
  Duration deadline = std::chrono::seconds(10);
  // Bytes per second that a peer must keep up meanwhile. A wait ends in E-net-timeout `deadline`
  // after the last byte of a message, and also once it has lasted longer than `deadline` plus the
  // time that the bytes which came since its beginning take at this rate: a large message on a slow
  // link does not time out, a peer that lets single bytes trickle does.
  std::uint64_t least_rate = std::uint64_t{64} << 10;
  // Longest time of a run, from its expect(): every wait in it ends then, in E-net-timeout,
  // whatever the peers say and send.
  Duration run_limit = std::chrono::hours(1);
  // Bytes of messages that have arrived and have not been received yet, of all peers. Beyond it, a
  // link is not read until the caller has received some of them, unless the next message is the one
  // that is waited for. (Links in memory deliver on the sender's thread and do not wait.)
  std::size_t ahead_bytes = std::size_t{1} << 30;
  // Bytes queued for one peer above which send() waits. One message is always admitted.
  std::size_t queue_bytes = std::size_t{256} << 20;
  // How long a waiting thread polls before it sleeps. Waking a thread on an idle core costs tens of
  // microseconds on a virtual machine, twice per message; polling yields the core in every turn.
  Duration spin = std::chrono::microseconds(200);
  // Turns a message id into words for errors; may be empty. Called with locks held: it must not use
  // the transport.
  std::function<std::string(std::uint32_t)> step_name;
  // Wraps every link: shaped() and faulty().
  LinkDecorator decorate;
};

class Transport {
 public:
  // Without a close() before it, tells the peers that this endpoint left in the middle.
  virtual ~Transport() = default;

  virtual PeerIndex self() const = 0;
  // All endpoints, this one included, by index.
  virtual const std::vector<EndpointInfo>& endpoints() const = 0;

  // Declares every message that this endpoint receives in `run` and lets the peers send them.
  // Run ids grow from call to call; the messages of the run before must all have been received.
  // Called for every run, with an empty table if need be. Throws E-net-usage.
  // `most_steps`: largest number of completed steps that a peer may tell by send_alive(), hence
  // also how often it can prolong waits in this run. 0: such frames are refused.
  virtual void expect(RunId run, std::span<const Expected> table, std::uint64_t most_steps = 0) = 0;

  // Queues a message; returns at once unless queue_bytes is exceeded. Data for a run that the peer
  // has not declared yet stays in the queue until it has.
  virtual void send(PeerIndex peer, const MessageHeader& header, Payload payload) = 0;

  // Waits for a declared message. `bytes` must be what was declared (E-net-usage); each message can
  // be received once. No value of `deadline` means options.deadline.
  virtual Received receive(PeerIndex peer, RunId run, std::uint32_t message, std::uint64_t bytes,
                           std::optional<Duration> deadline = {}) = 0;
  // Gives the payload of receive() back, to be used for a later message. Never needed.
  virtual void recycle(SecretBuffer payload) { payload.reset(); }
  // From now on such buffers may be kept up to that many bytes together with those in use, or up to
  // the most that are in use at once. For callers that have reckoned with these bytes.
  virtual void keep_buffers(std::size_t) {}
  // Whether receive() would return at once.
  virtual bool arrived(PeerIndex peer, RunId run, std::uint32_t message) = 0;

  // Waits until every peer has declared `run`. Not needed for correctness: it marks a common start
  // for time measurements.
  virtual void wait_ready(RunId run, std::optional<Duration> deadline = {}) = 0;

  // Control messages: kinds go and key_seed, at most kMaxControlBytes, received in order per kind.
  virtual void send_control(PeerIndex peer, FrameKind kind, RunId run,
                            std::span<const std::byte> payload) = 0;
  virtual SecretBuffer receive_control(PeerIndex peer, FrameKind kind, RunId run,
                                       std::optional<Duration> deadline = {}) = 0;

  // Tells a peer that this side is at work on `run` and has completed `steps` steps of it: more
  // than the last time. At the peer, waits for this endpoint, and for no other, begin anew. Dropped
  // if the peer has not declared that run.
  virtual void send_alive(PeerIndex peer, RunId run, std::uint64_t steps) = 0;

  // Writes everything that is queued (also held back by MessageHeader::more). Never needed.
  virtual void flush() = 0;

  // Throws what every other call would if the session has failed or been closed. Cheap: for callers
  // that compute for long between calls that wait.
  virtual void check() const = 0;

  // Stops the session and tells every peer. The words travel to the peers: nothing secret in them.
  virtual void abort(std::string_view step, std::string_view reason) = 0;
  // Says goodbye, waits until the peers have too (at most `wait`), ends the connections. Counters
  // stay readable; everything else throws E-net-closed.
  virtual void close(Duration wait = std::chrono::seconds(1)) = 0;

  virtual PeerStatistics statistics(PeerIndex peer) const = 0;

  // 32 bytes that only this endpoint and the peer can compute, from the link's TLS exporter.
  virtual SecretBuffer export_key(PeerIndex peer, const std::string& label,
                                  std::span<const std::byte> context) = 0;
  // The AES-128 key that this endpoint and the peer share for the PRG draws of one holder set in
  // one run; equal at both ends, new for each session, run, holder set and program. Throws
  // E-net-key-reuse for a (holders, run) asked for twice, or for a run before the newest one: a
  // (key, stream, block) is never used twice.
  virtual PrgKey derive_key(PeerIndex peer, std::string_view holders, RunId run,
                            const ProgramHash& program) = 0;
};

}  // namespace mpcc::net
