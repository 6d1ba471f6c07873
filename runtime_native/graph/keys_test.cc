// Keys of sessions and runs over real TLS connections: the same for all holders, and never the same
// for anything else, aborted and repeated sessions included.
#include "graph/keys.h"

#include <doctest/doctest.h>

#include <array>
#include <cstdlib>
#include <future>
#include <map>
#include <tuple>
#include <type_traits>

#include "base/random.h"
#include "graph/engine.h"
#include "net/tests/network.h"

namespace mpcc::graph {
namespace {

using namespace std::chrono_literals;
using net::testing::Network;

// Keys of a seed are for InMemoryCluster alone: no other code can build an engine with a key
// source.
static_assert(!std::is_constructible_v<Engine, const Program&, net::Transport&, EngineOptions,
                                       std::unique_ptr<KeySource>>);

const std::vector<std::string> kNames = {"P0+P1",       "P0+P2", "P0+P2+client",
                                         "P1+P2+model", "P1+P2", "client+model"};
using Stream = std::array<std::byte, 64>;
// (session, run, name) -> stream 0 as each holder has it.
using Streams = std::map<std::tuple<int, net::RunId, std::string>, std::vector<Stream>>;

// P0, P1, P2 and the owner: of a plan, what keys depend on.
std::vector<std::unique_ptr<KeySource>> sources(Network& network) {
  std::vector<std::unique_ptr<KeySource>> list;
  for (auto& transport : network) {
    Plan plan;
    plan.self = transport->self();
    plan.endpoint_of_place.assign(kPlaces, 0);
    for (const Place place : {Place::P0, Place::P1, Place::P2, Place::client, Place::model})
      plan.endpoint_of_place[index_of(place)] =
          std::min<std::uint32_t>(static_cast<std::uint32_t>(index_of(place)), 3);
    list.push_back(transport_keys(*transport, plan, net::ProgramHash{}));
  }
  return list;
}

// All endpoints agree on the keys of a run.
void agree(std::vector<std::unique_ptr<KeySource>>& endpoints, int session, net::RunId run,
           Streams& streams) {
  std::vector<std::future<PhaseKeys>> futures;
  for (auto& e : endpoints)
    futures.push_back(std::async(std::launch::async, [&] { return e->agree(kNames, run); }));
  for (auto& f : futures)
    for (const auto& [name, key] : f.get())
      key.fill(0, 0, streams[{session, run, name}].emplace_back());
}

TEST_CASE("an aborted session and its retry, and two runs of one: no stream occurs twice") {
  ::setenv("MPCC_DEBUG_PRG", "1", 1);
  const auto configs = net::testing::tls_configs(4, net::testing::test_options());
  Streams streams;
  for (int session = 0; session < 3; ++session) {
    // The same identities, program and run ids every time.
    Network network = net::testing::connect_all(configs);
    auto endpoints = sources(network);
    for (const net::RunId run : {0, 1, 2}) agree(endpoints, session, run, streams);
    if (session == 2) {
      net::testing::close_all(network);
      break;
    }
    network[1]->abort("%step3", "the machine is on fire");
    REQUIRE(net::testing::soon([&] {
      return net::testing::error_of([&] { network[0]->check(); }).code() == "E-net-aborted";
    }));
    // Nobody gets a key for the aborted run again, or any other.
    for (const net::RunId run : {2, 3})
      CHECK(net::testing::error_of([&] { endpoints[0]->agree(kNames, run); }).code() ==
            "E-net-aborted");
  }
  std::map<Stream, std::string> owners;
  for (const auto& [where, held] : streams) {
    const std::string& name = std::get<2>(where);
    CHECK(held.size() == (name == "client+model" ? 1 : name.size() > 5 ? 3 : 2));
    for (const Stream& s : held) CHECK(s == held[0]);
    const std::string text =
        std::to_string(std::get<0>(where)) + "/" + std::to_string(std::get<1>(where)) + "/" + name;
    const auto [found, fresh] = owners.emplace(held[0], text);
    CHECK_MESSAGE(fresh, text << " has the stream of " << found->second);
  }
  CHECK(owners.size() == 3 * 3 * kNames.size());
}

TEST_CASE("a run id that is not new gives no keys, and both ends must mean the same run") {
  const auto configs = net::testing::tls_configs(4, net::testing::test_options(500ms));
  Network network = net::testing::connect_all(configs);
  auto endpoints = sources(network);
  Streams streams;
  agree(endpoints, 0, 5, streams);
  for (const net::RunId run : {5, 4, 0})
    CHECK(net::testing::error_of([&] { endpoints[0]->agree({"P0+P1"}, run); }).code() ==
          "E-net-key-reuse");
  // Of two holders who disagree on the run, each has a key that the other has not.
  const auto key = [&](net::PeerIndex self, net::RunId run) {
    return network[self]->derive_key(1 - self, "P0+P1", run, net::ProgramHash{});
  };
  CHECK(key(0, 6) != key(1, 7));
  // A seed for another run is not taken.
  auto owner = std::async(std::launch::async, [&] {
    return net::testing::error_of([&] { endpoints[3]->agree({"P0+P2+client"}, 9); });
  });
  const Error e = net::testing::error_of([&] { endpoints[0]->agree({"P0+P2+client"}, 8); });
  CHECK(e.code().starts_with("E-net-"));
  (void)owner.get();
}

TEST_CASE("draws are recorded: a second use of a key or of its blocks is an error") {
  ::setenv("MPCC_DEBUG_PRG", "1", 1);
  KeyRing ring;
  PhaseKeys keys;
  std::array<std::byte, 16> key{};
  random_bytes(key);
  ring.put(keys, "P0+P1", 3, 1, key);
  Stream out{};
  keys.at("P0+P1").fill(7, 0, out);
  const Error again = net::testing::error_of([&] { keys.at("P0+P1").fill(7, 3, out); });
  CHECK(again.code() == "E-prg-reuse");
  CHECK(again.message() ==
        "blocks 3 to 3 of stream 7 of key P0+P1 of run 3 are drawn a second time");
  // The same key in a later run, under any name.
  PhaseKeys later;
  const Error same = net::testing::error_of([&] { ring.put(later, "P0+P2", 4, 1, key); });
  CHECK(same.code() == "E-prg-reuse");
  CHECK(later.empty());
  // A key that two places of this endpoint hold.
  random_bytes(key);
  ring.put(keys, "client+model", 3, 2, key);
  keys.at("client+model").fill(7, 0, out);
  keys.at("client+model").fill(7, 0, out);
  CHECK_THROWS_AS(keys.at("client+model").fill(7, 0, out), Error);
}

#ifdef NDEBUG
TEST_CASE("without the debug variable, release builds record nothing") {
  ::unsetenv("MPCC_DEBUG_PRG");
  CHECK_FALSE(prg::reuse_is_checked());
  ::setenv("MPCC_DEBUG_PRG", "yes", 1);
  CHECK_THROWS_AS((void)prg::reuse_is_checked(), Error);
  ::setenv("MPCC_DEBUG_PRG", "1", 1);
  CHECK(prg::reuse_is_checked());
}
#else
TEST_CASE("debug builds record always") {
  ::unsetenv("MPCC_DEBUG_PRG");
  CHECK(prg::reuse_is_checked());
}
#endif

TEST_CASE("the self-tests pass on this machine") { CHECK_NOTHROW(check_randomness()); }

}  // namespace
}  // namespace mpcc::graph
