// Everything that a link can do wrong, over memory and over TLS: each fault ends in an error that
// names the peer and the step, on the side that notices it, and every other endpoint stops too.
#include <doctest/doctest.h>

#include <array>
#include <chrono>
#include <thread>
#include <utility>

#include "net/endpoint.h"
#include "net/faulty.h"
#include "net/shaped.h"
#include "net/tests/network.h"

namespace mpcc::net {
namespace {

using namespace testing;

struct Outcome {
  Error receiver{"", ""};
  Error bystander{"", ""};
};

// P1 sends five messages of 100 bytes to P0 through the fault; P2 waits for P0, in vain.
Outcome run_with(Kind kind, const Fault& fault, Duration deadline = 2s) {
  auto options = test_options(deadline);
  options.decorate = faulty(1, 0, fault);
  Network net = make_network(kind, 3, options);
  std::vector<Expected> table;
  for (std::uint32_t m = 0; m < 5; ++m) table.push_back({1, m, 100, m});
  net[0]->expect(1, table);
  net[1]->expect(1, {});
  const Expected from_p0{0, 9, 8, 0};
  net[2]->expect(1, std::span(&from_p0, 1));
  Outcome out;
  std::thread sender([&] {
    try {
      for (std::uint32_t m = 0; m < 5; ++m) net[1]->send(0, {1, m, m, false}, test_payload(100, m));
    } catch (const Error&) {
      // P1 may have learnt of the failure in the middle.
    }
  });
  std::thread bystander(
      [&] { out.bystander = error_of([&] { net[2]->receive(0, 1, 9, 8, 4s); }); });
  out.receiver = error_of([&] {
    for (std::uint32_t m = 0; m < 5; ++m) net[0]->receive(1, 1, m, 100);
    net[0]->abort("the end", "no fault was noticed");
  });
  sender.join();
  bystander.join();
  return out;
}

void check_refused(Kind kind, const Fault& fault, const std::string& code,
                   const std::string& reason, const std::string& step) {
  const Outcome out = run_with(kind, fault, 500ms);
  INFO(std::string(out.receiver.what()));
  INFO(std::string(out.bystander.what()));
  CHECK(out.receiver.code() == code);
  CHECK(contains(out.receiver.message(), "P1"));
  CHECK(contains(out.receiver.message(), reason));
  CHECK(contains(out.receiver.where(), step));
  CHECK(contains(out.bystander.what(), "P1"));
  CHECK(contains(out.bystander.what(), reason));
}

void for_each_kind(const std::function<void(Kind)>& body) {
  SUBCASE("memory") { body(Kind::memory); }
  SUBCASE("tls") { body(Kind::tls); }
}

Fault fault(FaultKind kind, std::uint64_t message, std::size_t offset = 0) {
  Fault f;
  f.kind = kind;
  f.message = message;
  f.offset = offset;
  return f;
}

Fault lie(std::function<void(FrameHeader&)> rewrite, std::uint64_t message = 2) {
  Fault f;
  f.kind = FaultKind::rewrite;
  f.message = message;
  f.rewrite = std::move(rewrite);
  return f;
}

TEST_CASE("a corrupted header") {
  for_each_kind([](Kind kind) {
    check_refused(kind, fault(FaultKind::corrupt, 2, 33), "E-net-frame", "damaged frame header",
                  "%step");
  });
}

TEST_CASE("a corrupted payload") {
  for_each_kind([](Kind kind) {
    check_refused(kind, fault(FaultKind::corrupt, 2, 64 + 99), "E-net-frame", "damaged payload",
                  "%step2");
  });
}

TEST_CASE("a truncated frame") {
  for_each_kind([](Kind kind) {
    check_refused(kind, fault(FaultKind::truncate, 3, 1), "E-net-lost", "ended", "%step3");
    check_refused(kind, fault(FaultKind::truncate, 3, 120), "E-net-lost", "ended", "%step");
  });
}

TEST_CASE("a duplicated frame") {
  for_each_kind([](Kind kind) {
    check_refused(kind, fault(FaultKind::duplicate, 1), "E-net-frame", "seen before", "%step1");
  });
}

TEST_CASE("a replayed frame") {
  for_each_kind([](Kind kind) {
    check_refused(kind, fault(FaultKind::replay, 3), "E-net-frame", "seen before", "%step2");
  });
}

TEST_CASE("reordered frames") {
  for_each_kind([](Kind kind) {
    check_refused(kind, fault(FaultKind::reorder, 2), "E-net-frame", "is next (reordered",
                  "%step3");
  });
}

TEST_CASE("frames that are well formed and wrong") {
  for_each_kind([](Kind kind) {
    const auto refused = [&](std::function<void(FrameHeader&)> f, const std::string& reason) {
      check_refused(kind, lie(std::move(f)), "E-net-frame", reason, "%step");
    };
    refused([](FrameHeader& h) { h.payload_bytes = std::uint64_t{1} << 60; },
            "payload of 1152921504606846976 bytes where 100 are expected");
    refused([](FrameHeader& h) { h.payload_bytes = 99; }, "payload of 99 bytes");
    refused([](FrameHeader& h) { h.run = 2; }, "its run is not the declared one (1)");
    refused([](FrameHeader& h) { h.run = 0; }, "its run is not the declared one (1)");
    refused([](FrameHeader& h) { h.session ^= 1; }, "another session");
    refused([](FrameHeader& h) { h.message = 77; }, "no such message is expected");
    refused([](FrameHeader& h) { h.message = 1; }, "has arrived before");
    refused([](FrameHeader& h) { h.depth = 9; }, "depth 9 where 2 is expected");
    refused([](FrameHeader& h) { h.payload_checksum ^= 1; }, "damaged payload");
    refused([](FrameHeader& h) { h.kind = FrameKind::hello; }, "control frame with a message id");
  });
}

Fault without_checksum() {
  return lie([](FrameHeader& h) {
    h.has_checksum = false;
    h.payload_checksum = 0;
  });
}

TEST_CASE("a payload without a checksum is taken from TLS and from nobody else") {
  check_refused(Kind::memory, without_checksum(), "E-net-frame", "no payload checksum", "%step2");
  CHECK(run_with(Kind::tls, without_checksum()).receiver.code() == "none");
}

// Keeps the headers of what leaves through the link.
class WatchedLink final : public Link, private LinkSource {
 public:
  WatchedLink(std::unique_ptr<Link> inner, std::vector<FrameHeader>& seen)
      : seen_(seen), inner_(std::move(inner)) {}
  void start(LinkSource& source, LinkReceiver& receiver) override {
    source_ = &source;
    inner_->start(*this, receiver);
  }
  void kick() override { inner_->kick(); }
  void shut() override { inner_->shut(); }
  void drop() override { inner_->drop(); }
  bool authenticated() const noexcept override { return inner_->authenticated(); }
  LinkCounters counters() const override { return inner_->counters(); }
  void export_key(const std::string& label, std::span<const std::byte> context,
                  std::span<std::byte> out) override {
    inner_->export_key(label, context, out);
  }

 private:
  void take(std::vector<Chunk>& out) override {
    source_->take(out);
    for (const Chunk& c : out)
      if (c.head_bytes == kHeaderBytes) seen_.push_back(decode_header(c.head));
  }
  std::size_t pending_bytes() const noexcept override { return source_->pending_bytes(); }

  LinkSource* source_ = nullptr;
  std::vector<FrameHeader>& seen_;
  // Last, so that it goes first: its callbacks use all of the above.
  const std::unique_ptr<Link> inner_;
};

TEST_CASE("inside TLS data has no checksum, in memory it has") {
  const auto kinds_with = [](Kind kind, LinkDecorator more) {
    std::vector<FrameHeader> seen;
    auto options = test_options();
    options.decorate = [&, more](std::unique_ptr<Link> link, std::uint32_t self,
                                 std::uint32_t peer) -> std::unique_ptr<Link> {
      if (more) link = more(std::move(link), self, peer);
      if (self != 1) return link;
      return std::make_unique<WatchedLink>(std::move(link), seen);
    };
    {
      Network net = make_network(kind, 2, options);
      const Expected one{1, 0, 100, 0};
      net[0]->expect(1, std::span(&one, 1));
      net[1]->expect(1, {});
      net[1]->send(0, {1, 0, 0, false}, test_payload(100, 3));
      CHECK(same(net[0]->receive(1, 1, 0, 100).payload.bytes(), test_payload(100, 3).bytes()));
      close_all(net);
    }
    int data = 0;
    int summed = 0;
    for (const FrameHeader& h : seen) {
      CHECK((h.kind == FrameKind::data || h.has_checksum));
      data += h.kind == FrameKind::data ? 1 : 0;
      summed += h.kind == FrameKind::data && h.has_checksum ? 1 : 0;
    }
    CHECK(data == 1);
    return summed;
  };
  CHECK(kinds_with(Kind::memory, {}) == 1);
  CHECK(kinds_with(Kind::tls, {}) == 0);
  CHECK(kinds_with(Kind::tls, shaped({1e9, 1ms})) == 0);
}

TEST_CASE("control frames that are too long, or come at the wrong time") {
  for_each_kind([](Kind kind) {
    const auto refused = [&](FrameKind as, std::uint64_t bytes, const std::string& reason) {
      check_refused(kind, lie([=](FrameHeader& h) {
                      h.kind = as;
                      h.message = h.depth = 0;
                      if (bytes != 0) h.payload_bytes = bytes;
                    }),
                    "E-net-frame", reason, "%step");
    };
    refused(FrameKind::go, 4097, "control frame of 4097 bytes");
    refused(FrameKind::hello, 0, "not allowed at this point");
    refused(FrameKind::bye, 0, "bye frame with a payload");
    refused(FrameKind::ready, 0, "ready frame with a payload");
  });
}

TEST_CASE("a connection that is cut") {
  for_each_kind([](Kind kind) {
    // Both ends notice; either may be the first to tell the other endpoints.
    const Outcome out = run_with(kind, fault(FaultKind::drop, 2));
    for (const Error& e : {out.receiver, out.bystander}) {
      INFO(std::string(e.what()));
      CHECK((e.code() == "E-net-lost" || e.code() == "E-net-aborted"));
      CHECK(contains(e.message(), "the connection to P"));
      CHECK(contains(e.what(), "P1"));
      CHECK(contains(e.where(), "%step"));
    }
  });
}

TEST_CASE("a peer that hangs") {
  for_each_kind([](Kind kind) {
    check_refused(kind, fault(FaultKind::stall, 2), "E-net-timeout", "nothing from P1 for 0.5 s",
                  "message 2 (%step2)");
  });
}

TEST_CASE("a delay below the deadline does no harm") {
  for_each_kind([](Kind kind) {
    Fault f = fault(FaultKind::delay, 2);
    f.duration = 120ms;
    const auto start = std::chrono::steady_clock::now();
    const Outcome out = run_with(kind, f);
    CHECK(out.receiver.code() == "none");
    CHECK(contains(out.bystander.message(), "no fault was noticed"));
    CHECK(std::chrono::steady_clock::now() - start >= 120ms);
  });
}

// The far end of a memory link that sends whatever bytes it is given.
class Scribbler final : public LinkSource, public LinkReceiver {
 public:
  Scribbler(std::unique_ptr<Link> link, std::vector<std::byte> bytes)
      : bytes_(std::move(bytes)), link_(std::move(link)) {
    link_->start(*this, *this);
    link_->shut();
  }
  void take(std::vector<Chunk>& out) override {
    if (std::exchange(sent_, true)) return;
    Chunk c;
    c.bytes = bytes_;
    out.push_back(c);
  }
  std::size_t pending_bytes() const noexcept override { return 0; }
  std::span<std::byte> prepare() noexcept override { return scrap_; }
  void commit(std::size_t) noexcept override {}
  void closed(const std::string&) noexcept override {}

 private:
  std::vector<std::byte> bytes_;
  bool sent_ = false;
  std::array<std::byte, 256> scrap_{};
  std::unique_ptr<Link> link_;
};

TEST_CASE(
    "whatever bytes arrive, an endpoint either gets what it declared or stops with an error") {
  TestRandom random(20);
  int accepted = 0;
  for (int round = 0; round < 3000; ++round) {
    // A valid stream of a key seed, three messages and a goodbye ...
    std::vector<std::byte> stream;
    std::uint64_t sequence = 0;
    const auto add = [&](FrameKind kind, std::uint32_t message, std::size_t bytes) {
      const SecretBuffer payload = test_payload(bytes, message);
      Checksum sum;
      sum.update(payload.bytes());
      FrameHeader h;
      h.kind = kind;
      h.session = 5;
      h.run = 1;
      h.sequence = sequence++;
      h.message = kind == FrameKind::data ? message : 0;
      h.payload_bytes = bytes;
      h.payload_checksum = sum.digest();
      // ... in which fields are sometimes changed before the checksum is made ...
      if (random.below(12) == 0) {
        switch (random.below(5)) {
          case 0:
            h.kind = static_cast<FrameKind>(1 + random.below(7));
            break;
          case 1:
            h.payload_bytes = random.next() >> random.below(64);
            break;
          case 2:
            h.message = static_cast<std::uint32_t>(random.below(6));
            break;
          case 3:
            h.sequence = random.below(6);
            break;
          default:
            h.run = random.below(3);
            break;
        }
      }
      const HeaderBytes head = encode_header(h);
      stream.insert(stream.end(), head.begin(), head.end());
      stream.insert(stream.end(), payload.bytes().begin(), payload.bytes().end());
    };
    add(FrameKind::key_seed, 0, 32);
    for (std::uint32_t m = 1; m <= 3; ++m) add(FrameKind::data, m, 40 * m);
    add(FrameKind::bye, 0, 0);
    // ... or bytes afterwards.
    if (random.below(2) == 0)
      for (std::size_t n = random.below(4); n > 0; --n)
        stream[random.below(stream.size())] = static_cast<std::byte>(random.next());
    if (random.below(8) == 0) stream.resize(random.below(stream.size()));

    auto [near, far] = make_memory_links(std::vector<std::byte>(32));
    std::vector<LinkState> links(2);
    links[1].link = std::move(near);
    links[1].session = 5;
    auto options = test_options();
    options.spin = 0s;
    Endpoint endpoint(0, test_endpoints(2), std::move(links), options);
    std::vector<Expected> table;
    for (std::uint32_t m = 1; m <= 3; ++m) table.push_back({1, m, 40 * m, 0});
    endpoint.expect(1, table);
    const Scribbler scribbler(std::move(far), stream);
    bool intact = true;
    const Error e = error_of([&] {
      for (std::uint32_t m = 1; m <= 3; ++m)
        intact = intact && same(endpoint.receive(1, 1, m, 40 * m, {}).payload.bytes(),
                                test_payload(40 * m, m).bytes());
    });
    INFO(std::string(e.what()));
    CHECK(intact);
    const std::string& code = e.code();
    CHECK((code == "none" || code == "E-net-frame" || code == "E-net-lost" ||
           code == "E-net-aborted" || code == "E-net-closed"));
    accepted += code == "none";
  }
  CHECK(accepted > 300);
  CHECK(accepted < 2700);
}

TEST_CASE("shaped: latency and bandwidth are what the profile says") {
  for_each_kind([](Kind kind) {
    auto options = test_options();
    options.decorate = shaped({80e6, 15ms});  // 10 MB/s
    Network net = make_network(kind, 2, options);
    const Expected back{1, 0, 10, 0};
    const Expected there{0, 0, 1000000, 0};
    net[0]->expect(1, std::span(&back, 1));
    net[1]->expect(1, std::span(&there, 1));
    for (auto& t : net) t->wait_ready(1);
    const auto start = std::chrono::steady_clock::now();
    std::thread other([&] {
      net[1]->receive(0, 1, 0, 1000000);
      net[1]->send(0, {1, 0, 0, false}, SecretBuffer(10));
    });
    net[0]->send(1, {1, 0, 0, false}, test_payload(1000000, 1));
    net[0]->receive(1, 1, 0, 10);
    const double ms =
        std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start).count();
    other.join();
    CHECK(ms >= 130.0);  // 100 for the bytes, twice 15 for the way
    CHECK(ms < 400.0);   // on a busy machine
    close_all(net);
  });
}

TEST_CASE("shaped: profiles by name") {
  CHECK(network_profile("lan").bits_per_second == 10e9);
  CHECK(network_profile("lan").one_way == 100us);
  CHECK(network_profile("wan").bits_per_second == 352e6);
  CHECK(network_profile("wan").one_way == 20ms);
  CHECK(network_profile("none").bits_per_second == 0);
  CHECK(error_of([] { network_profile("moon"); }).code() == "E-net-usage");
}

TEST_CASE("a fault inside a slow network is noticed all the same, and the abort gets through") {
  for_each_kind([](Kind kind) {
    auto options = test_options(500ms);
    options.decorate = compose(shaped({0, 5ms}), faulty(1, 0, fault(FaultKind::corrupt, 0, 70)));
    Network net = make_network(kind, 2, options);
    const Expected e{1, 0, 100, 0};
    const Expected never{0, 5, 100, 0};
    net[0]->expect(1, std::span(&e, 1));
    net[1]->expect(1, std::span(&never, 1));
    net[1]->send(0, {1, 0, 0, false}, SecretBuffer(100));
    CHECK(contains(error_of([&] { net[0]->receive(1, 1, 0, 100); }).message(), "damaged payload"));
    const Error told = error_of([&] { net[1]->receive(0, 1, 5, 100); });
    CHECK(told.code() == "E-net-aborted");
    CHECK(contains(told.message(), "P0 stopped: E-net-frame: frame from P1 refused"));
  });
}

}  // namespace
}  // namespace mpcc::net
