// net_bench: latency and throughput of the transport between two endpoints of this process.
// net_bench waits: three processes in rounds, by how long a wait polls before it sleeps.
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
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

double cpu_seconds() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

// Processor seconds of this process.
double process_seconds() {
  rusage use{};
  ::getrusage(RUSAGE_SELF, &use);
  const auto seconds = [](const timeval& t) {
    return static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_usec);
  };
  return seconds(use.ru_utime) + seconds(use.ru_stime);
}

struct PerRound {
  double seconds = 0;
  double processor = 0;
};

// One of three processes: every round it works, sends to the next one and waits for the one before.
PerRound ring_of_three(const TlsConfig& config, std::uint32_t rounds, double work) {
  constexpr std::uint64_t kBytes = 16 << 10;
  const auto net = connect_tls(config);
  const PeerIndex to = (config.self + 1) % 3;
  const PeerIndex from = (config.self + 2) % 3;
  net->expect(1, table(from, rounds, kBytes));
  net->wait_ready(1);
  const auto start = std::chrono::steady_clock::now();
  const double before = process_seconds();
  for (std::uint32_t m = 0; m < rounds; ++m) {
    const double end = cpu_seconds() + work;
    while (cpu_seconds() < end) {
    }
    net->send(to, {1, m, 0, false}, SecretBuffer(kBytes));
    net->receive(from, 1, m, kBytes, {});
  }
  const PerRound r{seconds_since(start) / rounds, (process_seconds() - before) / rounds};
  net->close();
  return r;
}

// The slowest one's time, the processor time of all.
PerRound three_processes(Duration spin, std::uint32_t rounds, double work) {
  TransportOptions options;
  options.spin = spin;
  std::vector<TlsConfig> configs = tls_configs(3, options);
  int ends[2];
  if (::pipe(ends) != 0) std::exit(1);
  std::vector<pid_t> children;
  for (const TlsConfig& config : configs) {
    children.push_back(::fork());
    if (children.back() != 0) continue;
    int code = 1;
    try {
      const PerRound r = ring_of_three(config, rounds, work);
      code = ::write(ends[1], &r, sizeof r) == sizeof r ? 0 : 1;
    } catch (const std::exception& e) {
      std::fprintf(stderr, "%s\n", e.what());
    }
    std::_Exit(code);
  }
  PerRound result;
  for (const pid_t child : children) {
    int status = 0;
    ::waitpid(child, &status, 0);
    PerRound r;
    if (status != 0 || ::read(ends[0], &r, sizeof r) != sizeof r) std::exit(1);
    result.seconds = std::max(result.seconds, r.seconds);
    result.processor += r.processor;
  }
  ::close(ends[0]);
  ::close(ends[1]);
  return result;
}

// The best of several sessions per cell, taken in alternation.
int waits() {
  constexpr std::array spins = {0, 20, 50, 200, 1000};
  constexpr std::array works = {0, 100, 1000};
  constexpr int kSessions = 5;
  std::printf(
      "best of %d sessions; microseconds per round and processor microseconds of all\n"
      "three processes, by work per round and process\n%12s",
      kSessions, "polls for");
  for (const int work : works) std::printf("   %6d us: round   CPU", work);
  std::printf("\n");
  std::map<std::pair<int, int>, PerRound> best;
  for (int session = 0; session < kSessions; ++session)
    for (const int work : works)
      for (const int spin : spins) {
        const std::uint32_t rounds = work < 1000 ? 1000 : 200;
        const PerRound r = three_processes(std::chrono::microseconds(spin), rounds, work * 1e-6);
        PerRound& b = best.try_emplace({spin, work}, r).first->second;
        b.seconds = std::min(b.seconds, r.seconds);
        b.processor = std::min(b.processor, r.processor);
      }
  for (const int spin : spins) {
    std::printf("%9d us", spin);
    for (const int work : works) {
      const PerRound& b = best[{spin, work}];
      std::printf("   %16.0f %5.0f", b.seconds * 1e6, b.processor * 1e6);
    }
    std::printf("\n");
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc > 1 && std::strcmp(argv[1], "waits") == 0) return waits();
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
