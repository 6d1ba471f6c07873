// net_bench: latency and throughput of the transport between two endpoints of this process.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <thread>
#include <vector>

#include "net/shaped.h"
#include "net/tests/network.h"

namespace {

using namespace mpcc;
using namespace mpcc::net;
using namespace mpcc::net::testing;

double seconds_since(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

std::vector<Expected> table(PeerIndex peer, std::uint32_t count, std::uint64_t bytes) {
  std::vector<Expected> t;
  for (std::uint32_t m = 0; m < count; ++m) t.push_back({peer, m, bytes, 0});
  return t;
}

void round_trips(const char* name, Kind kind, const TransportOptions& options,
                 std::uint32_t rounds) {
  constexpr std::uint64_t kBytes = 1024;
  Network net = make_network(kind, 2, options);
  for (PeerIndex i = 0; i < 2; ++i) net[i]->expect(1, table(1 - i, rounds, kBytes));
  for (auto& t : net) t->wait_ready(1);
  std::thread echo([&] {
    for (std::uint32_t m = 0; m < rounds; ++m)
      net[1]->send(0, {1, m, 0, false}, net[1]->receive(0, 1, m, kBytes).payload);
  });
  std::vector<double> times;
  for (std::uint32_t m = 0; m < rounds; ++m) {
    const auto start = std::chrono::steady_clock::now();
    net[0]->send(1, {1, m, 0, false}, SecretBuffer(kBytes));
    net[0]->receive(1, 1, m, kBytes);
    times.push_back(seconds_since(start) * 1e6);
  }
  echo.join();
  close_all(net);
  std::sort(times.begin(), times.end());
  std::printf("%-28s round trip of 1 KiB: median %8.1f us, p90 %8.1f us, best %8.1f us\n", name,
              times[times.size() / 2], times[times.size() * 9 / 10], times.front());
}

void throughput(const char* name, Kind kind, const TransportOptions& options, std::uint32_t count,
                std::uint64_t bytes, bool both) {
  Network net = make_network(kind, 2, options);
  for (PeerIndex i = 0; i < 2; ++i)
    net[i]->expect(1, table(1 - i, i == 1 || both ? count : 0, bytes));
  for (auto& t : net) t->wait_ready(1);
  const auto data = std::make_shared<SecretBuffer>(test_payload(bytes, 1));
  const auto start = std::chrono::steady_clock::now();
  const auto work = [&](PeerIndex me) {
    if (me == 0 || both)
      for (std::uint32_t m = 0; m < count; ++m)
        net[me]->send(1 - me, {1, m, 0, false}, Payload::borrow(data->bytes(), data));
    if (me == 1 || both)
      for (std::uint32_t m = 0; m < count; ++m) net[me]->receive(1 - me, 1, m, bytes);
  };
  std::thread other([&] { work(1); });
  work(0);
  other.join();
  const double s = seconds_since(start);
  close_all(net);
  std::printf("%-28s %u messages of %7.0f KiB, %s: %6.2f GB/s per direction\n", name, count,
              static_cast<double>(bytes) / 1024, both ? "both ways" : "one way  ",
              static_cast<double>(count) * static_cast<double>(bytes) / s / 1e9);
}

}  // namespace

int main() {
  TransportOptions plain;
  TransportOptions sleepy;
  sleepy.spin = Duration(0);
  TransportOptions lan, wan;
  lan.decorate = shaped(lan_profile());
  wan.decorate = shaped(wan_profile());
  round_trips("memory", Kind::memory, plain, 5000);
  round_trips("tls loopback", Kind::tls, plain, 5000);
  round_trips("tls loopback, no polling", Kind::tls, sleepy, 2000);
  round_trips("tls loopback, lan profile", Kind::tls, lan, 500);
  round_trips("tls loopback, wan profile", Kind::tls, wan, 20);
  for (const bool both : {false, true}) {
    throughput("tls loopback", Kind::tls, plain, 2000, 64 << 10, both);
    throughput("tls loopback", Kind::tls, plain, 200, 4 << 20, both);
  }
  throughput("memory", Kind::memory, plain, 200, 4 << 20, false);
  throughput("tls loopback, lan profile", Kind::tls, lan, 50, 4 << 20, false);
  throughput("tls loopback, wan profile", Kind::tls, wan, 10, 4 << 20, false);
  return 0;
}
