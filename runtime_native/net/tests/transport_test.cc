// What holds for every transport: run over memory and over TLS.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <thread>

#include "net/buffer_pool.h"
#include "net/shaped.h"
#include "net/tests/network.h"

namespace mpcc::net {
namespace {

using namespace testing;

void for_each_kind(const std::function<void(Kind)>& body) {
  SUBCASE("memory") { body(Kind::memory); }
  SUBCASE("tls") { body(Kind::tls); }
}

std::vector<Expected> from(PeerIndex peer, std::vector<std::uint64_t> sizes) {
  std::vector<Expected> table;
  for (std::size_t i = 0; i < sizes.size(); ++i)
    table.push_back({peer, static_cast<std::uint32_t>(i), sizes[i], static_cast<std::uint32_t>(i)});
  return table;
}

MessageHeader header(RunId run, std::uint32_t message) { return {run, message, message, false}; }

TEST_CASE(
    "messages of many sizes arrive unchanged, in any order of receiving, in both directions") {
  for_each_kind([](Kind kind) {
    const std::vector<std::uint64_t> sizes = {0,     1,     63,    64,     65,       1000,    16319,
                                              16320, 16321, 16384, 262144, 262145,   1000003, 5,
                                              0,     7,     32768, 65536,  10000000, 12};
    Network net = make_network(kind, 2, test_options());
    net[0]->expect(1, from(1, sizes));
    net[1]->expect(1, from(0, sizes));
    std::vector<std::thread> threads;
    std::atomic<int> wrong{0};
    for (PeerIndex me = 0; me < 2; ++me) {
      threads.emplace_back([&, me] {
        Transport& t = *net[me];
        for (std::uint32_t m = 0; m < sizes.size(); ++m)
          t.send(1 - me, header(1, m), test_payload(sizes[m], 100 * me + m));
        for (std::uint32_t i = 0; i < sizes.size(); ++i) {
          // First the last, then the first, and so on.
          const std::uint32_t m =
              i % 2 ? i / 2 : static_cast<std::uint32_t>(sizes.size()) - 1 - i / 2;
          const Received r = t.receive(1 - me, 1, m, sizes[m]);
          if (r.depth != m ||
              !same(r.payload.bytes(), test_payload(sizes[m], 100 * (1 - me) + m).bytes()))
            ++wrong;
        }
      });
    }
    for (auto& t : threads) t.join();
    CHECK(wrong == 0);
    close_all(net);
  });
}

TEST_CASE("byte counters are exact") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 3, test_options());
    const std::vector<std::uint64_t> sizes = {10, 100000, 0};
    for (PeerIndex i = 0; i < 3; ++i) net[i]->expect(4, i == 1 ? from(0, sizes) : from(1, {}));
    for (auto& t : net) t->wait_ready(4);
    for (std::uint32_t m = 0; m < 3; ++m) net[0]->send(1, header(4, m), test_payload(sizes[m], m));
    net[0]->send_control(1, FrameKind::go, 4, std::vector<std::byte>(5));
    for (std::uint32_t m = 0; m < 3; ++m) net[1]->receive(0, 4, m, sizes[m]);
    CHECK(net[1]->receive_control(0, FrameKind::go, 4).size() == 5);
    const PeerStatistics r = net[1]->statistics(0);
    CHECK(soon([&] { return net[0]->statistics(1).wire_bytes_sent == r.wire_bytes_received; }));
    const PeerStatistics s = net[0]->statistics(1);
    CHECK(s.payload_bytes_sent == 100010);
    CHECK(r.payload_bytes_received == 100010);
    CHECK(s.messages_sent == 3);
    CHECK(r.messages_received == 3);
    // Three data frames, ready, and go with its 5 bytes.
    CHECK(s.framing_bytes_sent == 5 * kHeaderBytes + 5);
    CHECK(r.framing_bytes_received == 5 * kHeaderBytes + 5);
    CHECK(s.payload_bytes_received == 0);
    CHECK(s.max_depth == 2);
    CHECK(r.max_depth == 2);
    CHECK(net[0]->statistics(2).payload_bytes_sent == 0);
    if (kind == Kind::memory)
      CHECK(s.wire_bytes_sent == 100010 + 5 * kHeaderBytes + 5);
    else
      CHECK(s.wire_bytes_sent > 100010 + 6 * kHeaderBytes + 5);  // hello, handshake, records
    close_all(net);
  });
}

TEST_CASE("messages marked with more go out in one write with the next one") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 2, test_options());
    net[0]->expect(1, {});
    net[1]->expect(1, from(0, std::vector<std::uint64_t>(20, 200)));
    net[0]->wait_ready(1);
    net[1]->wait_ready(1);
    CHECK(soon([&] {
      return net[0]->statistics(1).wire_bytes_sent == net[1]->statistics(0).wire_bytes_received;
    }));
    const auto before = net[0]->statistics(1);
    for (std::uint32_t m = 0; m < 20; ++m) {
      MessageHeader h = header(1, m);
      h.more = m != 19;
      net[0]->send(1, h, test_payload(200, m));
    }
    net[1]->receive(0, 1, 19, 200);
    // One record: 5 bytes of header, 1 of type, 16 of tag.
    const std::uint64_t wire = 20 * (200 + kHeaderBytes) + (kind == Kind::tls ? 22 : 0);
    CHECK(soon(
        [&] { return net[0]->statistics(1).wire_bytes_sent - before.wire_bytes_sent >= wire; }));
    const auto after = net[0]->statistics(1);
    CHECK(after.wire_bytes_sent - before.wire_bytes_sent == wire);
    CHECK(after.writes - before.writes == 1);
    for (std::uint32_t m = 0; m < 19; ++m) net[1]->receive(0, 1, m, 200);
    close_all(net);
  });
}

TEST_CASE("what was held back by more is written when the sender waits") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 2, test_options());
    net[0]->expect(1, from(1, {8}));
    net[1]->expect(1, from(0, {8}));
    std::thread other([&] {
      net[1]->receive(0, 1, 0, 8);
      net[1]->send(0, header(1, 0), SecretBuffer(8));
    });
    MessageHeader h = header(1, 0);
    h.more = true;
    net[0]->send(1, h, SecretBuffer(8));
    CHECK(net[0]->receive(1, 1, 0, 8).payload.size() == 8);
    other.join();
    close_all(net);
  });
}

TEST_CASE("a payload of several pieces is one message; lent memory is released after sending") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 2, test_options());
    net[0]->expect(1, {});
    net[1]->expect(1, from(0, {30001, 50000}));
    std::vector<SecretBuffer> pieces;
    for (const std::size_t n : {30000, 0, 1}) pieces.push_back(test_payload(n, n));
    net[0]->send(1, header(1, 0), Payload(std::move(pieces)));
    const SecretBuffer arena = test_payload(50000, 9);
    std::atomic<bool> released{false};
    {
      std::shared_ptr<const void> lease(arena.data(), [&](const void*) { released = true; });
      net[0]->send(1, header(1, 1), Payload::borrow(arena.bytes(), std::move(lease)));
    }
    const Received a = net[1]->receive(0, 1, 0, 30001);
    CHECK(same(a.payload.bytes().first(30000), test_payload(30000, 30000).bytes()));
    CHECK(same(a.payload.bytes().subspan(30000), test_payload(1, 1).bytes()));
    CHECK(same(net[1]->receive(0, 1, 1, 50000).payload.bytes(), arena.bytes()));
    for (int i = 0; i < 1000 && !released; ++i) std::this_thread::sleep_for(1ms);
    CHECK(released);
    close_all(net);
  });
}

TEST_CASE("data sent before the peer has declared the run waits for it; runs follow each other") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 2, test_options());
    net[0]->expect(0, {});
    net[0]->send(1, header(0, 0), test_payload(100, 1));
    net[0]->expect(1, {});
    net[0]->send(1, header(1, 0), test_payload(10, 2));
    std::this_thread::sleep_for(20ms);
    CHECK(net[0]->statistics(1).payload_bytes_sent == 0);
    net[1]->expect(0, from(0, {100}));
    CHECK(same(net[1]->receive(0, 0, 0, 100).payload.bytes(), test_payload(100, 1).bytes()));
    CHECK(net[0]->statistics(1).payload_bytes_sent == 100);
    net[1]->expect(1, from(0, {10}));
    CHECK(same(net[1]->receive(0, 1, 0, 10).payload.bytes(), test_payload(10, 2).bytes()));
    close_all(net);
  });
}

TEST_CASE("wrong use is an error of the caller and does no harm to the session") {
  Network net = make_network(Kind::memory, 2, test_options());
  Transport& t = *net[0];
  const auto code = [](auto f) { return error_of(f).code(); };
  CHECK(code([&] { t.receive(1, 1, 0, 8); }) == "E-net-usage");  // no run declared
  t.expect(5, from(1, {8}));
  net[1]->expect(5, {});
  CHECK(code([&] { t.receive(1, 5, 1, 8); }) == "E-net-usage");
  CHECK(code([&] { t.receive(1, 5, 0, 9); }) == "E-net-usage");
  CHECK(code([&] { t.receive(1, 6, 0, 8); }) == "E-net-usage");
  CHECK(code([&] { t.receive(0, 5, 0, 8); }) == "E-net-usage");
  CHECK(code([&] { t.send(2, header(5, 0), SecretBuffer(1)); }) == "E-net-usage");
  CHECK(code([&] { t.send_control(1, FrameKind::abort, 5, {}); }) == "E-net-usage");
  CHECK(code([&] { t.send_control(1, FrameKind::go, 5, std::vector<std::byte>(4097)); }) ==
        "E-net-usage");
  CHECK(contains(error_of([&] { t.expect(6, {}); }).message(), "%step0"));  // not received yet
  net[1]->send(0, header(5, 0), SecretBuffer(8));
  CHECK(t.arrived(1, 5, 0));
  t.receive(1, 5, 0, 8);
  CHECK(code([&] { t.receive(1, 5, 0, 8); }) == "E-net-usage");  // twice
  CHECK(code([&] { t.expect(5, {}); }) == "E-net-usage");        // not a new run
  const std::vector<Expected> twice = {{1, 0, 8, 0}, {1, 0, 9, 0}};
  CHECK(code([&] { t.expect(6, twice); }) == "E-net-usage");
  t.expect(6, from(1, {1}));
  net[1]->expect(6, {});
  net[1]->send(0, header(6, 0), SecretBuffer(1));
  t.receive(1, 6, 0, 1);
  close_all(net);
  CHECK(code([&] { t.send(1, header(6, 1), SecretBuffer(1)); }) == "E-net-closed");
}

TEST_CASE("control messages: seeds and go, per run, in any order") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 3, test_options());
    const std::vector<std::byte> seed(32, std::byte{7});
    net[2]->send_control(0, FrameKind::go, 2, {});
    net[2]->send_control(0, FrameKind::key_seed, 1, seed);
    CHECK(same(net[0]->receive_control(2, FrameKind::key_seed, 1).bytes(), seed));
    CHECK(net[0]->receive_control(2, FrameKind::go, 2).empty());
    CHECK(net[2]->statistics(0).payload_bytes_sent == 0);
    close_all(net);
  });
}

TEST_CASE("silence of a peer ends the session with its name and the step, on all sides") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 3, test_options(150ms));
    for (PeerIndex i = 0; i < 3; ++i) net[i]->expect(1, from((i + 1) % 3, {8}));
    net[0]->wait_ready(1, 2s);  // silence begins after the ready frames
    Error other("", "");
    std::thread waiting([&] { other = error_of([&] { net[2]->receive(0, 1, 0, 8, 2s); }); });
    const auto start = std::chrono::steady_clock::now();
    const Error e = error_of([&] { net[0]->receive(1, 1, 0, 8); });
    const auto took = std::chrono::steady_clock::now() - start;
    waiting.join();
    CHECK(e.code() == "E-net-timeout");
    CHECK(contains(e.message(), "P1"));
    CHECK(contains(e.where(), "%step0"));
    CHECK(took >= 150ms);
    CHECK(took < 1500ms);
    CHECK(other.code() == "E-net-aborted");
    CHECK(contains(other.message(), "P0 stopped: E-net-timeout: nothing from P1"));
    CHECK(error_of([&] { net[0]->receive(1, 1, 0, 8); }).code() == "E-net-timeout");  // for ever
  });
}

TEST_CASE("a deadline is about silence: a message that keeps coming does not time out") {
  // 300 kB at 1 Mbit/s take 2.4 s.
  auto options = test_options(1s);
  options.decorate = shaped({1e6, 0ms});
  Network net = make_network(Kind::memory, 2, options);
  net[0]->expect(1, {});
  net[1]->expect(1, from(0, {300000}));
  net[0]->send(1, header(1, 0), test_payload(300000, 1));
  CHECK(net[1]->receive(0, 1, 0, 300000).payload.size() == 300000);
  close_all(net);
}

TEST_CASE("abort reaches every blocked receive at once, with who and where") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 3, test_options(5s));
    for (PeerIndex i = 0; i < 3; ++i) net[i]->expect(1, from((i + 1) % 3, {8}));
    std::vector<Error> errors(3, Error("", ""));
    std::vector<std::thread> threads;
    const auto start = std::chrono::steady_clock::now();
    for (PeerIndex i = 0; i < 3; ++i)
      threads.emplace_back(
          [&, i] { errors[i] = error_of([&] { net[i]->receive((i + 1) % 3, 1, 0, 8); }); });
    std::this_thread::sleep_for(30ms);
    net[1]->abort("%conv3", "disk full\x01");
    for (auto& t : threads) t.join();
    CHECK(std::chrono::steady_clock::now() - start < 1s);
    for (const PeerIndex i : {0u, 2u}) {
      CHECK(errors[i].code() == "E-net-aborted");
      CHECK(contains(errors[i].message(), "P1 aborted"));
      CHECK(contains(errors[i].message(), "disk full?"));
      CHECK(contains(errors[i].message(), "%conv3"));
      CHECK(contains(errors[i].where(), "%step0"));
    }
    CHECK(contains(errors[1].what(), "%conv3"));
  });
}

TEST_CASE("an endpoint that goes away without closing is named by the others") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 3, test_options());
    for (PeerIndex i = 0; i < 3; ++i) net[i]->expect(1, from((i + 1) % 3, {8}));
    std::thread leaving([&] { net[1].reset(); });
    const Error e0 = error_of([&] { net[0]->receive(1, 1, 0, 8); });
    const Error e2 = error_of([&] { net[2]->receive(0, 1, 0, 8); });
    leaving.join();
    CHECK(contains(e0.what(), "P1"));
    CHECK(contains(e2.what(), "P1"));
    CHECK(contains(e0.where(), "%step0"));
  });
}

TEST_CASE("waiting for a peer that has said goodbye is an error at once") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 2, test_options(5s));
    net[0]->expect(1, from(1, {8, 8}));
    net[1]->expect(1, {});
    net[1]->send(0, header(1, 0), SecretBuffer(8));
    std::thread other([&] { net[1]->close(); });
    CHECK(net[0]->receive(1, 1, 0, 8).payload.size() == 8);  // sent before the goodbye
    const Error e = error_of([&] { net[0]->receive(1, 1, 1, 8); });
    CHECK(e.code() == "E-net-closed");
    CHECK(contains(e.message(), "P1 has finished"));
    other.join();
  });
}

TEST_CASE("a full queue makes send wait, and fail when the peer takes nothing") {
  for_each_kind([](Kind kind) {
    auto options = test_options(200ms);
    options.queue_bytes = 1000;
    Network net = make_network(kind, 2, options);
    net[0]->expect(1, {});
    net[0]->send(1, header(1, 0), SecretBuffer(5000));  // one is always admitted
    const Error e = error_of([&] { net[0]->send(1, header(1, 1), SecretBuffer(10)); });
    CHECK(e.code() == "E-net-timeout");
    CHECK(contains(e.where(), "sending message 1 (%step1)"));
  });
}

TEST_CASE("keys: equal at both ends, different per run, holder set, link and program") {
  for_each_kind([](Kind kind) {
    Network net = make_network(kind, 3, test_options());
    const ProgramHash program{};
    ProgramHash other{};
    other[0] = std::byte{1};
    std::vector<PrgKey> keys = {
        net[0]->derive_key(1, "P0+P1", 0, program), net[0]->derive_key(1, "P0+P1", 1, program),
        net[0]->derive_key(1, "P1+P0", 1, program), net[0]->derive_key(2, "P0+P1", 1, program),
        net[0]->derive_key(1, "P0+P1", 2, other)};
    CHECK(net[1]->derive_key(0, "P0+P1", 0, program) == keys[0]);
    CHECK(net[1]->derive_key(0, "P0+P1", 1, program) == keys[1]);
    CHECK(net[1]->derive_key(0, "P1+P0", 1, program) == keys[2]);
    CHECK(net[2]->derive_key(0, "P0+P1", 1, program) == keys[3]);
    std::sort(keys.begin(), keys.end());
    CHECK(std::adjacent_find(keys.begin(), keys.end()) == keys.end());

    // A key is given out once, and never again for an earlier run.
    CHECK(error_of([&] { net[0]->derive_key(1, "P0+P1", 2, program); }).code() ==
          "E-net-key-reuse");
    CHECK(error_of([&] { net[0]->derive_key(1, "P0+P9", 1, program); }).code() ==
          "E-net-key-reuse");

    const std::vector<std::byte> context(3);
    CHECK(same(net[1]->export_key(2, "EXPORTER-x", context).bytes(),
               net[2]->export_key(1, "EXPORTER-x", context).bytes()));
    CHECK(!same(net[1]->export_key(2, "EXPORTER-y", context).bytes(),
                net[2]->export_key(1, "EXPORTER-x", context).bytes()));
    CHECK(!same(net[1]->export_key(0, "EXPORTER-x", context).bytes(),
                net[2]->export_key(1, "EXPORTER-x", context).bytes()));
    close_all(net);
  });
}

TEST_CASE("memory: keys repeat with a fixed seed and do not without") {
  const auto key = [](Network net) {
    const PrgKey k = net[0]->derive_key(1, "P0+P1", 1, ProgramHash{});
    close_all(net);
    return k;
  };
  const auto endpoints = test_endpoints(2);
  CHECK(key(make_in_memory_network(endpoints, FixedSeed{1})) ==
        key(make_in_memory_network(endpoints, FixedSeed{1})));
  CHECK(key(make_in_memory_network(endpoints, FixedSeed{1})) !=
        key(make_in_memory_network(endpoints, FixedSeed{2})));
  CHECK(key(make_in_memory_network(endpoints)) != key(make_in_memory_network(endpoints)));
}

TEST_CASE("a session of many small rounds between three endpoints, with threads") {
  for_each_kind([](Kind kind) {
    constexpr std::uint32_t kRounds = 300;
    Network net = make_network(kind, 3, test_options());
    std::atomic<int> wrong{0};
    std::vector<std::thread> threads;
    for (PeerIndex me = 0; me < 3; ++me) {
      threads.emplace_back([&, me] {
        Transport& t = *net[me];
        const PeerIndex next = (me + 1) % 3, before = (me + 2) % 3;
        for (RunId run = 1; run <= 3; ++run) {
          t.expect(run, from(before, std::vector<std::uint64_t>(kRounds, 24)));
          for (std::uint32_t m = 0; m < kRounds; ++m) {
            t.send(next, header(run, m), test_payload(24, run * 10000 + 10 * m + me));
            const Received r = t.receive(before, run, m, 24);
            if (!same(r.payload.bytes(), test_payload(24, run * 10000 + 10 * m + before).bytes()))
              ++wrong;
          }
        }
        t.close();
      });
    }
    for (auto& t : threads) t.join();
    CHECK(wrong == 0);
  });
}

}  // namespace

TEST_CASE("buffers that are given back serve again, and keeping them does not raise the peak") {
  constexpr std::size_t kSize = BufferPool::kLeast;
  BufferPool pool;
  SecretBuffer a = pool.take(2 * kSize);
  SecretBuffer b = pool.take(kSize);
  pool.give(std::move(a));
  CHECK(pool.kept_bytes() == 2 * kSize);
  // Only the size that it has.
  SecretBuffer c = pool.take(kSize + 64);
  CHECK(c.size() == kSize + 64);
  // 2 and 1 were lent at once: now 1, 1 and a bit are, so 2 cannot be kept.
  CHECK(pool.kept_bytes() == 0);
  pool.give(std::move(b));
  pool.give(std::move(c));
  SecretBuffer d = pool.take(kSize);
  CHECK(d.size() == kSize);
  CHECK(pool.kept_bytes() == kSize + 64);
  // Small ones are not kept.
  pool.give(pool.take(kSize - 1));
  pool.give(SecretBuffer());
  CHECK(pool.kept_bytes() == kSize + 64);
  // More than were lent at once, where that is permitted.
  pool.permit(11 * kSize);
  pool.give(pool.take(8 * kSize));
  CHECK(pool.kept_bytes() == 9 * kSize + 64);
  pool.give(pool.take(2 * kSize));  // the oldest make room
  CHECK(pool.kept_bytes() == 10 * kSize);
  // What was lent before counts no longer; one buffer still is.
  pool.permit(0);
  CHECK(pool.kept_bytes() == 0);
  pool.give(std::move(d));
  CHECK(pool.kept_bytes() == kSize);
}

TEST_CASE("messages arrive unchanged in buffers that held others") {
  for_each_kind([](Kind kind) {
    constexpr std::uint64_t kSize = 300001;
    Network net = make_network(kind, 2, test_options());
    const std::byte* first = nullptr;
    for (RunId run = 1; run <= 3; ++run) {
      net[0]->expect(run, {});
      net[1]->expect(run, from(0, {kSize, kSize}));
      for (std::uint32_t m = 0; m < 2; ++m) {
        net[0]->send(1, header(run, m), test_payload(kSize, 10 * run + m));
        Received r = net[1]->receive(0, run, m, kSize);
        CHECK(same(r.payload.bytes(), test_payload(kSize, 10 * run + m).bytes()));
        if (first == nullptr) first = r.payload.data();
        CHECK(r.payload.data() == first);
        net[1]->recycle(std::move(r.payload));
      }
    }
    close_all(net);
  });
}

}  // namespace mpcc::net
