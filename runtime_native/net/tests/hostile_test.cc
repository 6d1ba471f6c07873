// A peer that holds valid keys and means harm: it trickles, floods, sends too early or twice. Each
// ends in an error that names it and the step, in bounded time and memory.
#include <doctest/doctest.h>

#include <atomic>
#include <cstring>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

#include "net/blame.h"
#include "net/endpoint.h"
#include "net/tests/network.h"

namespace mpcc::net {
namespace {

using namespace testing;

constexpr std::uint64_t kSession = 77;

// The other end of a link, which sends whatever bytes it is given.
class RawPeer final : private LinkSource, private LinkReceiver {
 public:
  explicit RawPeer(std::unique_ptr<Link> link) : link_(std::move(link)) {
    link_->start(*this, *this);
  }

  void send(std::vector<std::byte> bytes) {
    {
      const std::lock_guard lock(mutex_);
      queue_.push_back(std::make_shared<std::vector<std::byte>>(std::move(bytes)));
    }
    link_->kick();
  }

  // A frame with all its checksums right.
  std::vector<std::byte> frame(FrameKind kind, RunId run, std::size_t bytes = 0,
                               std::uint32_t message = 0, std::uint32_t depth = 0) {
    return frame(kind, run, std::vector<std::byte>(bytes, std::byte{7}), message, depth);
  }

  std::vector<std::byte> alive(RunId run, std::uint64_t steps) {
    std::vector<std::byte> payload(kAliveBytes);
    std::memcpy(payload.data(), &steps, sizeof steps);
    return frame(FrameKind::alive, run, payload, 0, 0);
  }

  std::vector<std::byte> waits(RunId run, PeerIndex awaited) {
    std::vector<std::byte> payload(kWaitsBytes);
    std::memcpy(payload.data(), &awaited, sizeof awaited);
    return frame(FrameKind::waits, run, payload, 0, 0);
  }

  // The kinds of all frames so far.
  std::vector<FrameKind> received() {
    const std::lock_guard lock(mutex_);
    std::vector<FrameKind> kinds;
    for (std::size_t at = 0; at + kHeaderBytes <= got_.size();) {
      const FrameHeader h = decode_header(std::span(got_).subspan(at).first<kHeaderBytes>());
      kinds.push_back(h.kind);
      at += kHeaderBytes + h.payload_bytes;
    }
    return kinds;
  }

 private:
  std::vector<std::byte> frame(FrameKind kind, RunId run, const std::vector<std::byte>& payload,
                               std::uint32_t message, std::uint32_t depth) {
    const std::size_t bytes = payload.size();
    Checksum sum;
    sum.update(payload);
    FrameHeader h;
    h.kind = kind;
    h.session = kSession;
    h.run = run;
    h.sequence = sequence_++;
    h.message = message;
    h.depth = depth;
    h.payload_bytes = bytes;
    h.payload_checksum = sum.digest();
    const HeaderBytes head = encode_header(h);
    std::vector<std::byte> all(head.size() + bytes);
    std::copy(head.begin(), head.end(), all.begin());
    std::copy(payload.begin(), payload.end(), all.begin() + kHeaderBytes);
    return all;
  }

  void take(std::vector<Chunk>& out) override {
    const std::lock_guard lock(mutex_);
    for (auto& bytes : queue_) {
      Chunk c;
      c.bytes = *bytes;
      c.owner = std::move(bytes);
      out.push_back(std::move(c));
    }
    queue_.clear();
  }
  std::size_t pending_bytes() const noexcept override { return 0; }
  std::span<std::byte> prepare() noexcept override { return scrap_; }
  void commit(std::size_t n) noexcept override {
    const std::lock_guard lock(mutex_);
    got_.insert(got_.end(), scrap_.begin(), scrap_.begin() + static_cast<std::ptrdiff_t>(n));
  }
  void closed(const std::string&) noexcept override {}

  std::mutex mutex_;
  std::deque<std::shared_ptr<std::vector<std::byte>>> queue_;
  std::array<std::byte, 4096> scrap_{};
  std::vector<std::byte> got_;
  std::uint64_t sequence_ = 0;
  std::unique_ptr<Link> link_;
};

struct Pair {
  explicit Pair(const TransportOptions& options) {
    std::array<std::byte, 32> secret{};
    auto [near, far] = make_memory_links(secret);
    std::vector<LinkState> links(2);
    links[1] = {std::move(near), kSession, 0, 0};
    victim = std::make_unique<Endpoint>(0, test_endpoints(2), std::move(links), options);
    peer = std::make_unique<RawPeer>(std::move(far));
  }

  std::unique_ptr<Transport> victim;
  std::unique_ptr<RawPeer> peer;
};

constexpr std::uint64_t kMostSteps = 20;

void expect_one(Transport& t, RunId run, std::uint64_t bytes) {
  const Expected e{1, 5, bytes, 2};
  t.expect(run, std::span(&e, 1), kMostSteps);
}

void check_blames(const Error& error, const std::string& code, const std::string& reason,
                  const std::string& step) {
  INFO(std::string(error.what()));
  CHECK(error.code() == code);
  CHECK(contains(error.what(), reason));
  const auto blame = find_blame(error);
  REQUIRE(blame);
  CHECK(blame->party == "P1");
  CHECK(contains(blame->step, step));
}

TEST_CASE("a peer that lets single bytes trickle times out") {
  auto options = test_options(200ms);
  options.least_rate = 64 << 10;
  Pair pair(options);
  constexpr std::size_t kBytes = 100'000;
  expect_one(*pair.victim, 1, kBytes);
  const auto bytes = pair.peer->frame(FrameKind::data, 1, kBytes, 5, 2);
  std::atomic<bool> stop{false};
  pair.peer->send({bytes.begin(), bytes.begin() + kHeaderBytes});
  std::atomic<std::size_t> sent{kHeaderBytes};
  std::thread trickle([&] {
    while (!stop && sent < bytes.size()) {
      pair.peer->send({bytes[sent++]});
      std::this_thread::sleep_for(5ms);
    }
  });
  const Error error = error_of([&] { pair.victim->receive(1, 1, 5, kBytes); });
  stop = true;
  trickle.join();
  CHECK(sent < bytes.size());
  check_blames(error, "E-net-timeout", "too slow", "run 1, message 5 (%step5)");
}

TEST_CASE("a slow peer that keeps the least rate may take longer than the deadline") {
  auto options = test_options(1s);
  options.least_rate = 100;
  Pair pair(options);
  expect_one(*pair.victim, 1, 2000);
  const auto bytes = pair.peer->frame(FrameKind::data, 1, 2000, 5, 2);
  std::thread slow([&] {
    for (std::size_t at = 0; at < bytes.size(); at += 128) {
      std::this_thread::sleep_for(100ms);
      const auto end = std::min(at + 128, bytes.size());
      pair.peer->send({bytes.begin() + static_cast<std::ptrdiff_t>(at),
                       bytes.begin() + static_cast<std::ptrdiff_t>(end)});
    }
  });
  CHECK(pair.victim->receive(1, 1, 5, 2000).payload.size() == 2000);
  slow.join();
}

TEST_CASE("a fast beginning earns no endless silence") {
  auto options = test_options(200ms);
  options.least_rate = 1;
  Pair pair(options);
  expect_one(*pair.victim, 1, 1'000'000);
  auto bytes = pair.peer->frame(FrameKind::data, 1, 1'000'000, 5, 2);
  bytes.resize(900'000);
  pair.peer->send(bytes);
  const Error error = error_of([&] { pair.victim->receive(1, 1, 5, 1'000'000); });
  check_blames(error, "E-net-timeout", "P1", "message 5");
}

// What the victim says after the peer has sent these frames, while it waits for a message.
Error after(const std::function<void(RawPeer&)>& hostile, RunId runs = 1) {
  Pair pair(test_options(1s));
  for (RunId run = 1; run < runs; ++run) pair.victim->expect(run, {});
  expect_one(*pair.victim, runs, 10);
  hostile(*pair.peer);
  return error_of([&] { pair.victim->receive(1, runs, 5, 10); });
}

TEST_CASE("ready frames are counted") {
  check_blames(after([](RawPeer& p) {
                 p.send(p.frame(FrameKind::ready, 1));
                 p.send(p.frame(FrameKind::ready, 1));
               }),
               "E-net-frame", "ready for run 1 before", "run 1, ready");
  check_blames(after([](RawPeer& p) {
                 for (RunId run = 1; run < 6; ++run) p.send(p.frame(FrameKind::ready, run));
               }),
               "E-net-frame", "more than 2 runs that this side has not begun", "run 4, ready");
}

TEST_CASE("control frames out of their state are refused") {
  check_blames(after([](RawPeer& p) { p.send(p.frame(FrameKind::hello, 0, 112)); }), "E-net-frame",
               "not allowed at this point", "hello");
  check_blames(after([](RawPeer& p) { p.send(p.frame(FrameKind::go, 1)); }, 2), "E-net-frame",
               "run 1 is over", "run 1, go");
  check_blames(after([](RawPeer& p) { p.send(p.frame(FrameKind::key_seed, 1, 32)); }, 3),
               "E-net-frame", "run 1 is over", "key-seed");
  check_blames(after([](RawPeer& p) { p.send(p.frame(FrameKind::go, 1, 4097)); }), "E-net-frame",
               "4097 bytes", "run 1, go");
  check_blames(after([](RawPeer& p) {
                 for (int i = 0; i < 65; ++i) p.send(p.frame(FrameKind::go, 1, 4096));
               }),
               "E-net-frame", "control frames are waiting", "run 1, go");
}

TEST_CASE("alive frames have one form, grow, and end") {
  const auto refused = [](const std::function<void(RawPeer&)>& hostile, const std::string& reason,
                          const std::string& step = "run 1, alive") {
    check_blames(after(hostile), "E-net-frame", reason, step);
  };
  refused([](RawPeer& p) { p.send(p.frame(FrameKind::alive, 1, 7)); }, "alive frame of 7 bytes");
  refused([](RawPeer& p) { p.send(p.frame(FrameKind::alive, 1, 9)); }, "alive frame of 9 bytes");
  refused([](RawPeer& p) { p.send(p.frame(FrameKind::alive, 1)); }, "alive frame of 0 bytes");
  refused([](RawPeer& p) { p.send(p.frame(FrameKind::alive, 1, 8, 5)); },
          "control frame with a message id");
  refused([](RawPeer& p) { p.send(p.alive(1, 0)); }, "completed 0 steps, after 0");
  refused(
      [](RawPeer& p) {
        p.send(p.alive(1, 3));
        p.send(p.alive(1, 3));
      },
      "completed 3 steps, after 3");
  refused(
      [](RawPeer& p) {
        p.send(p.alive(1, 3));
        p.send(p.alive(1, 2));
      },
      "completed 2 steps, after 3");
  refused([](RawPeer& p) { p.send(p.alive(1, kMostSteps + 1)); }, "21 steps of at most 20");
  refused([](RawPeer& p) { p.send(p.alive(2, 1)); }, "its run is not the declared one (1)",
          "run 2, alive");
  Pair undeclared(test_options(1s));
  undeclared.peer->send(undeclared.peer->alive(0, 1));
  check_blames(error_of([&] { undeclared.victim->check(); }), "E-net-frame",
               "its run is not the declared one (none yet)", "run 0, alive");
  Pair unasked(test_options(1s));
  unasked.victim->expect(1, {});
  unasked.peer->send(unasked.peer->alive(1, 1));
  check_blames(error_of([&] { unasked.victim->check(); }), "E-net-frame", "1 steps of at most 0",
               "run 1, alive");
}

TEST_CASE("waits frames have one form and name an endpoint") {
  const auto refused = [](const std::function<void(RawPeer&)>& hostile, const std::string& reason,
                          const std::string& step = "run 1, waits") {
    check_blames(after(hostile), "E-net-frame", reason, step);
  };
  refused([](RawPeer& p) { p.send(p.frame(FrameKind::waits, 1, 3)); }, "waits frame of 3 bytes");
  refused([](RawPeer& p) { p.send(p.frame(FrameKind::waits, 1, 8)); }, "waits frame of 8 bytes");
  refused([](RawPeer& p) { p.send(p.waits(1, 2)); }, "it waits for endpoint 2 of 2");
  refused([](RawPeer& p) { p.send(p.waits(2, 0)); }, "its run is not the declared one (1)",
          "run 2, waits");
}

// Its sender did not know yet that the receiver had gone on.
TEST_CASE("alive and waits frames of a run that is over change nothing") {
  Pair pair(test_options(300ms));
  for (RunId run = 1; run <= 2; ++run) {
    expect_one(*pair.victim, run, 10);
    pair.peer->send(pair.peer->alive(1, 1 + run));
    pair.peer->send(pair.peer->waits(1, 0));
    if (run == 1) pair.peer->send(pair.peer->frame(FrameKind::data, 1, 10, 5, 2));
    if (run == 1) CHECK(pair.victim->receive(1, 1, 5, 10).payload.size() == 10);
  }
  pair.peer->send(pair.peer->alive(2, 1));
  CHECK(error_of([&] { pair.victim->check(); }).code() == "none");
}

// An endpoint whose three peers are raw.
struct Crowd {
  explicit Crowd(const TransportOptions& options) {
    std::array<std::byte, 32> secret{};
    std::vector<LinkState> links(4);
    for (PeerIndex i = 1; i < 4; ++i) {
      auto [near, far] = make_memory_links(secret);
      links[i] = {std::move(near), kSession, 0, 0};
      raw.push_back(std::make_unique<RawPeer>(std::move(far)));
    }
    victim = std::make_unique<Endpoint>(0, test_endpoints(4), std::move(links), options);
    const Expected e{2, 5, 10, 2};
    victim->expect(1, std::span(&e, 1));
  }
  RawPeer& peer(PeerIndex i) { return *raw[i - 1]; }
  Error wait() {
    return error_of([&] { victim->receive(2, 1, 5, 10); });
  }

  std::vector<std::unique_ptr<RawPeer>> raw;
  std::unique_ptr<Transport> victim;
};

TEST_CASE("whoever waits for somebody who waits himself names the last one") {
  const auto blamed = [](std::initializer_list<std::pair<PeerIndex, PeerIndex>> waiting) {
    Crowd crowd(test_options(200ms));
    for (const auto& [who, awaited] : waiting)
      crowd.peer(who).send(crowd.peer(who).waits(1, awaited));
    const Error error = crowd.wait();
    INFO(error.what());
    CHECK(error.code() == "E-net-timeout");
    CHECK(error.message().find("nothing from P2 for 0.2 s") != std::string::npos);
    return find_blame(error)->party;
  };
  CHECK(blamed({}) == "P2");
  CHECK(blamed({{2, 1}}) == "P1");
  CHECK(blamed({{2, 1}, {1, 3}}) == "P3");
  CHECK(blamed({{1, 3}}) == "P2");
  // In a circle nobody is at its end.
  CHECK(blamed({{2, 0}}) == "P2");
  CHECK(blamed({{2, 1}, {1, 0}}) == "P2");
  CHECK(blamed({{2, 1}, {1, 2}}) == "P2");
}

TEST_CASE("nobody is blamed on another's word while it is heard itself") {
  Crowd crowd(test_options(kSlowness * 1s));
  crowd.peer(2).send(crowd.peer(2).waits(1, 1));
  std::atomic<bool> stop{false};
  std::thread working([&] {
    // As many as may wait to be taken.
    for (int i = 0; i < 60 && !stop; ++i) {
      crowd.peer(1).send(crowd.peer(1).frame(FrameKind::go, 1));
      std::this_thread::sleep_for(kSlowness * 25ms);
    }
  });
  const Error error = crowd.wait();
  stop = true;
  working.join();
  INFO(std::string(error.what()));
  CHECK(error.code() == "E-net-timeout");
  CHECK(contains(error.message(), "it says that it waits for P1, which is heard"));
  CHECK(find_blame(error)->party == "P2");
}

// Sends what `frame` makes, again and again, until the victim's wait has ended.
Error wait_in_flood(Pair& pair, Duration pause,
                    const std::function<std::vector<std::byte>()>& frame) {
  std::atomic<bool> stop{false};
  std::thread flood([&] {
    while (!stop) {
      pair.peer->send(frame());
      std::this_thread::sleep_for(pause);
    }
  });
  const Error error = error_of([&] { pair.victim->receive(1, 2, 5, 10); });
  stop = true;
  flood.join();
  return error;
}

TEST_CASE("frames that prolong nothing prolong nothing, and are few") {
  const auto begun = [](Pair& pair) {
    pair.victim->expect(1, {});
    expect_one(*pair.victim, 2, 10);
  };
  const auto endless = [](Pair& pair, int kind) {
    if (kind == 0) return pair.peer->alive(1, 1);
    return pair.peer->waits(kind == 1 ? 1 : 2, 0);
  };
  for (const int kind : {0, 1, 2}) {
    // A few times per deadline: silence all the same.
    Pair slow(test_options(kSlowness * 300ms));
    begun(slow);
    check_blames(wait_in_flood(slow, kSlowness * 60ms, [&] { return endless(slow, kind); }),
                 "E-net-timeout", "nothing from P1", "message 5");
    // More often: refused.
    Pair fast(test_options(60s));
    begun(fast);
    check_blames(wait_in_flood(fast, 1ms, [&] { return endless(fast, kind); }), "E-net-frame",
                 "too many waits frames", "run ");
  }
  // Control frames that wait to be taken are no progress either.
  Pair busy(test_options(kSlowness * 300ms));
  begun(busy);
  check_blames(
      wait_in_flood(busy, kSlowness * 60ms, [&] { return busy.peer->frame(FrameKind::go, 2); }),
      "E-net-timeout", "nothing from P1", "message 5");
}

TEST_CASE("a run has an end, whatever its peers say") {
  for (const bool sending : {false, true}) {
    auto options = test_options(60s);
    options.run_limit = kSlowness * 300ms;
    options.queue_bytes = 1;
    Pair pair(options);
    const Expected e{1, 5, 10, 2};
    pair.victim->expect(1, std::span(&e, 1), 1'000'000);
    std::atomic<bool> stop{false};
    std::thread working([&] {
      for (std::uint64_t step = 1; !stop; ++step) {
        pair.peer->send(pair.peer->alive(1, step));
        std::this_thread::sleep_for(5ms);
      }
    });
    const auto start = std::chrono::steady_clock::now();
    const Error error = error_of([&] {
      if (!sending) pair.victim->receive(1, 1, 5, 10);
      // The peer is never ready for them.
      for (std::uint32_t m = 0; m < 2; ++m)
        pair.victim->send(1, {1, m, 1, false}, test_payload(1000, m));
    });
    stop = true;
    working.join();
    check_blames(error, "E-net-timeout", "run 1 has not ended within", "message");
    CHECK(contains(error.message(), "run_limit_s"));
    CHECK(std::chrono::steady_clock::now() - start < 60s);
  }
}

TEST_CASE("waiting for the next run belongs to no run") {
  auto options = test_options(100ms);
  options.run_limit = 1ms;
  Pair pair(options);
  pair.victim->expect(1, {});
  std::thread driver([&] {
    std::this_thread::sleep_for(50ms);
    pair.peer->send(pair.peer->frame(FrameKind::go, 2));
  });
  CHECK(pair.victim->receive_control(1, FrameKind::go, 2, 60s).empty());
  driver.join();
}

TEST_CASE("whoever waits for long says so to everybody who is there but the one it waits for") {
  Crowd crowd(test_options(200ms));
  for (const PeerIndex i : {1U, 2U}) crowd.peer(i).send(crowd.peer(i).frame(FrameKind::ready, 1));
  CHECK(crowd.wait().code() == "E-net-timeout");
  using Kinds = std::vector<FrameKind>;
  CHECK(crowd.peer(1).received() == Kinds{FrameKind::ready, FrameKind::waits, FrameKind::abort});
  CHECK(crowd.peer(2).received() == Kinds{FrameKind::ready, FrameKind::abort});
  // 3 has not declared the run: it would refuse the frame.
  CHECK(crowd.peer(3).received() == Kinds{FrameKind::ready, FrameKind::abort});
}

TEST_CASE("the steps of an alive frame begin anew in every run") {
  Pair pair(test_options(1s));
  for (RunId run = 1; run <= 3; ++run) {
    expect_one(*pair.victim, run, 10);
    pair.peer->send(pair.peer->alive(run, 1));
    pair.peer->send(pair.peer->alive(run, kMostSteps));
    pair.peer->send(pair.peer->frame(FrameKind::data, run, 10, 5, 2));
    CHECK(pair.victim->receive(1, run, 5, 10).payload.size() == 10);
  }
  // They are no control frames that wait to be taken.
  CHECK(error_of([&] { pair.victim->receive_control(1, FrameKind::go, 3, 0ns); }).code() ==
        "E-net-timeout");
}

// A peer that says `times` times, every `pause`, that it is at work, and then sends its message.
Error wait_for_worker(Pair& pair, Duration pause, std::uint64_t times, bool tells) {
  expect_one(*pair.victim, 1, 10);
  std::thread worker([&] {
    for (std::uint64_t step = 1; step <= times; ++step) {
      std::this_thread::sleep_for(pause);
      if (tells) pair.peer->send(pair.peer->alive(1, step));
    }
    pair.peer->send(pair.peer->frame(FrameKind::data, 1, 10, 5, 2));
  });
  const Error error = error_of([&] { pair.victim->receive(1, 1, 5, 10); });
  worker.join();
  return error;
}

TEST_CASE("a wait lasts longer than the deadline for a peer that says it is at work, and only so") {
  // Neither the deadline nor the least rate ends the wait: 72 bytes every 100 ms, for 0.8 s.
  auto options = test_options(kSlowness * 500ms);
  options.least_rate = std::uint64_t{1} << 40;
  Pair patient(options);
  CHECK(wait_for_worker(patient, kSlowness * 100ms, 8, true).code() == "none");
  Pair silent(options);
  check_blames(wait_for_worker(silent, kSlowness * 100ms, 8, false), "E-net-timeout",
               "nothing from P1", "run 1, message 5");
}

TEST_CASE("a peer that was at work and falls silent times out") {
  Pair pair(test_options(300ms));
  expect_one(*pair.victim, 1, 10);
  pair.peer->send(pair.peer->alive(1, 1));
  check_blames(error_of([&] { pair.victim->receive(1, 1, 5, 10); }), "E-net-timeout", "P1",
               "message 5");
}

TEST_CASE("whoever is at work prolongs the wait for nobody else") {
  for (const Kind kind : {Kind::memory, Kind::tls}) {
    Network net = make_network(kind, 3, test_options(300ms));
    const Expected e{1, 5, 10, 2};
    net[0]->expect(1, std::span(&e, 1), 1'000'000);
    for (PeerIndex i = 1; i < 3; ++i) net[i]->expect(1, {});
    net[0]->wait_ready(1, 2s);
    net[2]->wait_ready(1, 2s);
    std::atomic<bool> stop{false};
    std::thread busy([&] {
      for (std::uint64_t step = 1; !stop; ++step) {
        if (error_of([&] { net[2]->send_alive(0, 1, step); }).code() != "none") return;
        std::this_thread::sleep_for(5ms);
      }
    });
    const auto start = std::chrono::steady_clock::now();
    check_blames(error_of([&] { net[0]->receive(1, 1, 5, 10); }), "E-net-timeout",
                 "nothing from P1 for 0.3 s", "message 5");
    CHECK(std::chrono::steady_clock::now() - start >= 300ms);
    stop = true;
    busy.join();
  }
}

TEST_CASE("an alive frame for a run that the peer has not declared is not sent") {
  for (const Kind kind : {Kind::memory, Kind::tls}) {
    Network net = make_network(kind, 2, test_options());
    net[1]->expect(1, {});
    const auto before = net[1]->statistics(0).framing_bytes_sent;
    net[1]->send_alive(0, 1, 1);
    CHECK(net[1]->statistics(0).framing_bytes_sent <= before + kHeaderBytes);  // its ready frame
    net[0]->expect(1, {}, 5);
    net[1]->wait_ready(1);
    net[1]->send_alive(0, 1, 5);
    net[1]->send_alive(0, 2, 1);
    net[1]->send_control(0, FrameKind::go, 1, {});
    CHECK(net[0]->receive_control(1, FrameKind::go, 1).empty());
    CHECK(net[0]->statistics(1).framing_bytes_received == 3 * kHeaderBytes + kAliveBytes);
    close_all(net);
  }
}

TEST_CASE("the cause is named where an error was passed on, however long the text") {
  const Error cause("E-net-timeout", "nothing", "P0 waiting" + blame_text("P1", "run 2, x}{y"));
  const Error passed("E-net-aborted", "P0 stopped: " + std::string(cause.what()),
                     "P2 computing" + blame_text("P0", "run 2"));
  const auto blame = find_blame(passed);
  REQUIRE(blame);
  CHECK(blame->party == "P1");
  CHECK(blame->step == "run 2, x)(y");
  CHECK(without_blame(passed.where()) == "P2 computing");
  CHECK(!find_blame(Error("E", "{party=P1")));
  CHECK(!find_blame(Error("E", "{party=P1} x, step=3}")));

  Network net = make_network(Kind::memory, 2, test_options());
  for (auto& t : net) t->expect(1, {});
  net[0]->abort("run 1, op 3", std::string(5000, 'x'));
  const Error heard = error_of([&] { net[1]->wait_ready(2); });
  const auto who = find_blame(heard);
  REQUIRE(who);
  CHECK(who->party == "P0");
  CHECK(who->step == "run 1, op 3");
}

TEST_CASE("what arrives ahead of its use is bounded, the rest waits in the peer") {
  auto options = test_options();
  options.ahead_bytes = 1000;
  Network net = make_network(Kind::tls, 2, options);
  constexpr std::uint32_t kMessages = 40;
  std::vector<Expected> table;
  for (std::uint32_t m = 0; m < kMessages; ++m) table.push_back({1, m, 600, m});
  table.push_back({1, kMessages, 0, 0});
  net[0]->expect(1, table);
  net[1]->expect(1, {});
  net[1]->wait_ready(1);
  for (std::uint32_t m = 0; m < kMessages; ++m)
    net[1]->send(0, {1, m, m, false}, test_payload(600, m));
  net[1]->send(0, {1, kMessages, 0, false}, {});
  CHECK(soon([&] { return net[0]->arrived(1, 1, 0); }));
  CHECK(soon([&] { return net[1]->statistics(0).messages_sent == kMessages + 1; }));
  std::this_thread::sleep_for(20ms);
  // One message and no second one: they would be more than 1000 bytes.
  CHECK(!net[0]->arrived(1, 1, 1));
  CHECK(net[0]->statistics(1).messages_received == 1);
  for (std::uint32_t m = 0; m < kMessages; ++m)
    CHECK(same(net[0]->receive(1, 1, m, 600).payload.bytes(), test_payload(600, m).bytes()));
  CHECK(net[0]->receive(1, 1, kMessages, 0).payload.empty());
  close_all(net);
}

TEST_CASE("tls: a flood of key updates ends the connection") {
  const TestAuthority authority;
  const PemPair a = authority.issue("P0");
  const PemPair b = authority.issue("P1");
  const TlsContext server_context(Pem::text(authority.pem()), Pem::text(a.certificate),
                                  Pem::text(a.key));
  const TlsContext client_context(Pem::text(authority.pem()), Pem::text(b.certificate),
                                  Pem::text(b.key));
  TlsSession server(server_context, TlsRole::server);
  TlsSession client(client_context, TlsRole::client);
  const auto carry = [](TlsSession& from, TlsSession& to) {
    while (!from.output().empty()) {
      const auto room = to.input_room();
      const std::size_t n = std::min(room.size(), from.output().size());
      std::copy_n(from.output().begin(), n, room.begin());
      to.input_added(n);
      from.output_sent(n);
    }
  };
  bool done = false;
  for (int i = 0; i < 10 && !done; ++i) {
    const bool c = client.handshake();
    carry(client, server);
    const bool s = server.handshake();
    carry(server, client);
    done = c && s;
  }
  REQUIRE(done);
  client.rekey_bytes = 0;  // a key update before every record
  int taken = 0;
  std::array<std::byte, 8> out{};
  const Error error = error_of([&] {
    for (; taken < 1000; ++taken) {
      client.write(std::span(out).first(1));
      carry(client, server);
      bool ended = false;
      (void)server.read(out, ended);
    }
  });
  CHECK(error.code() == "E-net-tls");
  CHECK(contains(error.message(), "keys too often"));
  CHECK(taken == 16);
}

}  // namespace
}  // namespace mpcc::net
