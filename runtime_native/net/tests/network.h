// Networks of endpoints inside one test: in memory or over TLS on loopback, with one interface.
#pragma once

#include <future>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "net/memory.h"
#include "net/tests/certificates.h"
#include "net/tls_transport.h"
#include "testing/random.h"

namespace mpcc::net::testing {

using namespace std::chrono_literals;
using mpcc::testing::TestRandom;
using Network = std::vector<std::unique_ptr<Transport>>;

// Instrumented code takes several times as long; deadlines that must not pass are longer there.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr int kSlowness = 4;
#else
inline constexpr int kSlowness = 1;
#endif

inline TransportOptions test_options(Duration deadline = 2s) {
  TransportOptions o;
  o.deadline = deadline;
  o.spin = 20us;
  o.step_name = [](std::uint32_t m) { return std::string("%step") + std::to_string(m); };
  return o;
}

inline std::vector<EndpointInfo> test_endpoints(std::size_t n) {
  std::vector<EndpointInfo> list;
  for (std::size_t i = 0; i < n; ++i) {
    EndpointInfo e;
    e.name = "P0";
    e.name[1] = static_cast<char>('0' + i);
    list.push_back(std::move(e));
  }
  if (n > 0) list[0].places = {"P0"};
  return list;
}

// What each endpoint of a TLS network is given; tests change a part of it before connecting.
inline std::vector<TlsConfig> tls_configs(std::size_t n, const TransportOptions& options) {
  const TestAuthority authority;
  std::vector<TlsEndpoint> endpoints;
  std::vector<std::shared_ptr<Listener>> listeners;
  for (const EndpointInfo& e : test_endpoints(n)) {
    listeners.push_back(std::make_shared<Listener>("127.0.0.1", 0));
    endpoints.push_back({e.name, e.places, "127.0.0.1", listeners.back()->port()});
  }
  std::vector<TlsConfig> configs;
  for (std::size_t i = 0; i < n; ++i) {
    const PemPair own = authority.issue(endpoints[i].name);
    configs.push_back({static_cast<PeerIndex>(i), endpoints, Pem::text(authority.pem()),
                       Pem::text(own.certificate), Pem::text(own.key), ProgramHash{}, options, 2s,
                       listeners[i]});
  }
  return configs;
}

inline Network connect_all(const std::vector<TlsConfig>& configs) {
  std::vector<std::future<std::unique_ptr<Transport>>> futures;
  for (const TlsConfig& c : configs)
    futures.push_back(std::async(std::launch::async, [&c] { return connect_tls(c); }));
  Network net;
  for (auto& f : futures) net.push_back(f.get());
  return net;
}

enum class Kind { memory, tls };

inline Network make_network(Kind kind, std::size_t n, const TransportOptions& options) {
  if (kind == Kind::memory) return make_in_memory_network(test_endpoints(n), FixedSeed{7}, options);
  return connect_all(tls_configs(n, options));
}

// Ends all at once, as separate processes would.
inline void close_all(Network& net) {
  std::vector<std::future<void>> futures;
  for (auto& t : net) futures.push_back(std::async(std::launch::async, [&t] { t->close(); }));
  for (auto& f : futures) f.get();
}

inline SecretBuffer test_payload(std::size_t bytes, std::uint64_t seed) {
  SecretBuffer b(bytes);
  TestRandom random(seed);
  for (auto& x : b.bytes()) x = static_cast<std::byte>(random.next() >> 56);
  return b;
}

inline bool same(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// The Error that f throws, or one with the code "none".
template <class F>
Error error_of(F&& f) {
  try {
    f();
  } catch (const Error& e) {
    return e;
  }
  return Error("none", "nothing was thrown");
}

// Whether the condition comes true soon: the sender's counters follow the write by a moment.
template <class F>
bool soon(F&& condition) {
  for (int i = 0; i < 1000; ++i) {
    if (condition()) return true;
    std::this_thread::sleep_for(1ms);
  }
  return false;
}

inline bool contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

}  // namespace mpcc::net::testing
