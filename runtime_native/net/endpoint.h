// The one implementation of Transport, over any links.
//
//   engine thread(s)            link thread
//   send -> queue per peer  --> take(): header, checksum, sequence -> link writes all at once
//   receive <- table slots  <-- prepare()/commit(): header checked, payload read in place
//
// One mutex guards queues, tables and the failure; it is never held while a link is called, and
// never while payload bytes are touched.
#pragma once

#include <memory>
#include <vector>

#include "net/peer.h"
#include "net/transport.h"

namespace mpcc::net {

class Endpoint final : public Transport, private SessionState {
 public:
  // links[self] is empty, the others are connected.
  Endpoint(PeerIndex self, std::vector<EndpointInfo> endpoints, std::vector<LinkState> links,
           TransportOptions options);
  ~Endpoint() override;

  PeerIndex self() const override { return self_; }
  const std::vector<EndpointInfo>& endpoints() const override { return endpoints_; }
  void expect(RunId run, std::span<const Expected> table, std::uint64_t most_steps = 0) override;
  void send(PeerIndex peer, const MessageHeader& header, Payload payload) override;
  Received receive(PeerIndex peer, RunId run, std::uint32_t message, std::uint64_t bytes,
                   std::optional<Duration> deadline) override;
  void recycle(SecretBuffer payload) override { buffers.give(std::move(payload)); }
  void keep_buffers(std::size_t bytes) override { buffers.permit(bytes); }
  bool arrived(PeerIndex peer, RunId run, std::uint32_t message) override;
  void wait_ready(RunId run, std::optional<Duration> deadline) override;
  void send_control(PeerIndex peer, FrameKind kind, RunId run,
                    std::span<const std::byte> payload) override;
  SecretBuffer receive_control(PeerIndex peer, FrameKind kind, RunId run,
                               std::optional<Duration> deadline) override;
  void send_alive(PeerIndex peer, RunId run, std::uint64_t steps) override;
  void flush() override;
  void check() const override;
  void abort(std::string_view step, std::string_view reason) override;
  void close(Duration wait) override;
  PeerStatistics statistics(PeerIndex peer) const override;
  SecretBuffer export_key(PeerIndex peer, const std::string& label,
                          std::span<const std::byte> context) override;
  PrgKey derive_key(PeerIndex peer, std::string_view holders, RunId run,
                    const ProgramHash& program) override;

 private:
  void fail(const Error& error) noexcept override;

  Peer& peer_at(PeerIndex peer) const;
  [[noreturn]] void usage(const std::string& message) const;
  void check_open(const std::string& doing) const;  // the mutex is held
  enum class Towards { us, peer };
  // Returns, with the mutex held, when ready() holds; throws on failure, when nothing moves in that
  // direction for `limit` or less than the least rate (TransportOptions), both since `peer` last
  // said that it is at work, when `of_run` is the declared run and has lasted for its limit, and
  // when `peer` has finished.
  template <class Ready, class Describe>
  std::unique_lock<std::mutex> wait_for(Peer& peer, RunId of_run, Duration limit, Towards direction,
                                        Ready ready, Describe describe);
  // Lets links go on whose next frame was held back. Without the mutex.
  void resume_links();
  // Tells all others that this endpoint has waited for `awaited` for long; the mutex is not held.
  void tell_waits(PeerIndex awaited);
  // Who keeps `peer` waiting, if what everybody has said is true; `peer` itself if nobody. The
  // mutex is held.
  const Peer& culprit(const Peer& peer) const;

  const PeerIndex self_;
  const std::vector<EndpointInfo> endpoints_;
  std::vector<std::unique_ptr<Peer>> peers_;
};

}  // namespace mpcc::net
