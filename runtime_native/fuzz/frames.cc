// The bytes of a hostile peer, frame by frame, against an endpoint that declares, receives and
// sends in the meantime. Nothing waits: deadlines are zero.
//
// The input is a sequence of steps, one byte of operation each:
//   raw bytes (length, bytes)            as they are, at the frame parser
//   frame (kind, run, sequence, message, depth, size, flags, payload)
//                                        with right checksums, so that what comes behind is
//                                        reached, or none (kind from 234 on)
//   declare, receive, take a control frame, send, close, end of the stream
//
// Holds throughout: what the endpoint hands out was declared, has the declared size and depth, and
// comes once; after a refusal it takes nothing more.
#include <algorithm>
#include <array>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "fuzz/common.h"
#include "net/endpoint.h"
#include "net/frame.h"

namespace mpcc::fuzz {
namespace {

using net::FrameHeader;
using net::FrameKind;

constexpr std::uint64_t kSession = 0x1122334455667788;
constexpr net::PeerIndex kPeer = 1;
constexpr std::uint64_t kMostSteps = 64;

// A link whose other end is the input.
class FedLink final : public net::Link {
 public:
  explicit FedLink(FedLink** self) { *self = this; }

  void start(net::LinkSource& source, net::LinkReceiver& receiver) override {
    source_ = &source;
    receiver_ = &receiver;
  }
  void kick() override {}
  // As a link that can always write.
  void push() override {
    if (shut_) return;
    std::vector<net::Chunk> chunks;
    source_->take(chunks);
    for (const net::Chunk& chunk : chunks) sent_ += chunk.size();
  }
  void shut() override {
    shut_ = true;
    ended_ = true;
  }
  void drop() override { shut(); }
  net::LinkCounters counters() const override { return {sent_, received_, 0}; }
  void export_key(const std::string&, std::span<const std::byte>,
                  std::span<std::byte> out) override {
    std::ranges::fill(out, std::byte{7});
  }

  void feed(std::span<const std::byte> bytes) {
    while (!bytes.empty() && !ended_) {
      const auto room = receiver_->prepare();
      if (room.empty()) return;
      const std::size_t n = std::min(room.size(), bytes.size());
      std::memcpy(room.data(), bytes.data(), n);
      received_ += n;
      receiver_->commit(n);
      bytes = bytes.subspan(n);
    }
  }
  void end() {
    if (ended_) return;
    ended_ = true;
    receiver_->closed("the input says so");
  }

 private:
  net::LinkSource* source_ = nullptr;
  net::LinkReceiver* receiver_ = nullptr;
  bool shut_ = false;
  bool ended_ = false;
  std::uint64_t sent_ = 0;
  std::uint64_t received_ = 0;
};

class Input {
 public:
  explicit Input(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  std::uint8_t byte() {
    if (bytes_.empty()) return 0;
    const auto value = static_cast<std::uint8_t>(bytes_[0]);
    bytes_ = bytes_.subspan(1);
    return value;
  }
  std::uint64_t word() {
    std::uint64_t value = 0;
    for (int i = 0; i < 8; ++i) value = value << 8 | byte();
    return value;
  }
  std::span<const std::byte> take(std::size_t n) {
    const auto out = bytes_.first(std::min(n, bytes_.size()));
    bytes_ = bytes_.subspan(out.size());
    return out;
  }

 private:
  std::span<const std::byte> bytes_;
};

class Session {
 public:
  explicit Session(std::span<const std::byte> bytes) : in_(bytes) {
    net::TransportOptions options;
    options.deadline = {};
    options.spin = {};
    options.queue_bytes = 1 << 16;
    options.step_name = [](std::uint32_t message) { return "step" + std::to_string(message); };
    std::vector<net::LinkState> links(2);
    links[kPeer].link = std::make_unique<FedLink>(&link_);
    links[kPeer].session = kSession;
    links[kPeer].sent_frames = links[kPeer].received_frames = 1;  // the hello frames
    std::vector<net::EndpointInfo> endpoints = {{"P0", {"P0"}}, {"P1", {"P1"}}};
    endpoint_ = std::make_unique<net::Endpoint>(0, std::move(endpoints), std::move(links), options);
  }

  void run() {
    while (!in_.empty()) step();
    accepts([&] { endpoint_->check(); });
    (void)endpoint_->statistics(kPeer);
  }

 private:
  // A value near the expected one, or any.
  std::uint64_t near(std::uint64_t expected) {
    const std::uint8_t how = in_.byte();
    if (how < 200) return expected;
    if (how < 250) return expected + how - 225;
    return in_.word();
  }

  void frame() {
    FrameHeader header;
    const std::uint8_t kind = in_.byte();
    header.kind = static_cast<FrameKind>(1 + kind % 9);
    header.has_checksum = kind < 234;
    header.session = near(kSession);
    header.run = near(run_);
    header.sequence = near(sequence_);
    header.message =
        header.kind == FrameKind::data ? in_.byte() % 8 : static_cast<std::uint32_t>(near(0));
    const auto declared = table_.find(header.message);
    const bool data = header.kind == FrameKind::data && declared != table_.end();
    header.depth = static_cast<std::uint32_t>(near(data ? declared->second.depth : 0));
    const std::uint64_t size = near(data ? declared->second.bytes : in_.byte() % 48);
    std::vector<std::byte> payload(std::min<std::uint64_t>(size, 1 << 13));
    std::ranges::copy(in_.take(payload.size()), payload.begin());
    header.payload_bytes = size;
    net::Checksum sum;
    sum.update(payload);
    header.payload_checksum = near(header.has_checksum ? sum.digest() : 0);
    auto bytes = net::encode_header(header);
    if (in_.byte() > 250) bytes[in_.byte() % net::kHeaderBytes] = std::byte{in_.byte()};
    ++sequence_;
    link_->feed(bytes);
    link_->feed(payload);
  }

  void declare() {
    std::vector<net::Expected> table;
    const std::uint64_t next = near(run_ + 1);
    const std::size_t n = in_.byte() % 8;
    std::map<std::uint32_t, net::Expected> wanted;
    for (std::size_t i = 0; i < n; ++i) {
      const std::uint32_t message = in_.byte() % 8;
      const std::uint64_t units = in_.byte();
      const std::uint64_t bytes = units * (in_.byte() % 8);
      table.push_back({kPeer, message, bytes, in_.byte() % 4U});
      wanted[message] = table.back();
    }
    if (accepts([&] { endpoint_->expect(next, table, kMostSteps); })) {
      MPCC_FUZZ_CHECK(wanted.size() == table.size());
      table_ = std::move(wanted);
      run_ = next;
    }
  }

  void receive() {
    const std::uint32_t message = in_.byte() % 8;
    const auto declared = table_.find(message);
    const std::uint64_t bytes = declared == table_.end() ? 0 : declared->second.bytes;
    bool here = false;
    accepts([&] { here = endpoint_->arrived(kPeer, run_, message); });
    if (!here) return;
    MPCC_FUZZ_CHECK(declared != table_.end());
    accepts([&] {
      const net::Received got = endpoint_->receive(kPeer, run_, message, bytes, {});
      MPCC_FUZZ_CHECK(got.payload.size() == declared->second.bytes);
      MPCC_FUZZ_CHECK(got.depth == declared->second.depth);
      table_.erase(declared);
    });
    MPCC_FUZZ_CHECK(!accepts([&] { (void)endpoint_->receive(kPeer, run_, message, bytes, {}); }));
  }

  void step() {
    switch (in_.byte() % 16) {
      case 0:
        link_->feed(in_.take(in_.byte()));
        break;
      case 1:
        link_->end();
        break;
      case 2:
      case 3:
        declare();
        break;
      case 4:
      case 5:
      case 6:
        receive();
        break;
      case 7:
        accepts([&] {
          const std::vector<std::byte> payload(in_.byte());
          const std::uint64_t run = near(run_);
          if (pending_ < 100) {  // more would wait for room
            endpoint_->send(kPeer, {run, in_.byte(), in_.byte(), in_.byte() % 2 == 0},
                            net::Payload::copy_of(payload));
            ++pending_;
          }
        });
        break;
      case 8: {
        const auto kind = in_.byte() % 2 == 0 ? FrameKind::go : FrameKind::key_seed;
        if (in_.byte() % 4 == 0)
          accepts([&] {
            const auto got = endpoint_->receive_control(kPeer, kind, run_, net::Duration{});
            MPCC_FUZZ_CHECK(got.size() <= net::kMaxControlBytes);
          });
        break;
      }
      case 9:
        if (in_.byte() % 8 == 0) endpoint_->close(net::Duration{});
        break;
      case 10:
        accepts([&] {
          (void)endpoint_->derive_key(kPeer, in_.byte() % 2 == 0 ? "P0+P1" : "P0+P1+client",
                                      near(run_), {});
        });
        break;
      default:
        frame();
    }
  }

  Input in_;
  FedLink* link_ = nullptr;
  std::unique_ptr<net::Endpoint> endpoint_;
  std::uint64_t run_ = 0;
  std::uint64_t sequence_ = 1;
  std::map<std::uint32_t, net::Expected> table_;
  int pending_ = 0;
};

}  // namespace
}  // namespace mpcc::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  // Headers as they come, too.
  if (size >= mpcc::net::kHeaderBytes)
    mpcc::fuzz::accepts([&] {
      const auto bytes = mpcc::fuzz::as_bytes(data, size).first<mpcc::net::kHeaderBytes>();
      const auto written = mpcc::net::encode_header(mpcc::net::decode_header(bytes));
      MPCC_FUZZ_CHECK(std::ranges::equal(written, bytes));
    });
  mpcc::fuzz::Session(mpcc::fuzz::as_bytes(data, size)).run();
  return 0;
}
