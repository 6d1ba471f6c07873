// Keys of the PRG draws, by holder set and phase.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "graph/plan.h"
#include "kernels/region.h"
#include "prg/aes.h"

namespace mpcc::graph {

// Holder sets of all draws of a phase, at any place, sorted: the same list at every endpoint.
std::vector<std::string> key_names(const Program& program, bool online);

// Expanded keys of one phase. Names that this endpoint does not hold are absent.
using PhaseKeys = std::map<std::string, prg::Aes128, std::less<>>;

// Known answers of AES, and the health tests of the system's random bytes; once per process, cheap.
// For whoever is about to hold secrets. Throws Error("E-prg-self-test"), Error("E-random-source"),
// Error("E-random-health").
void check_randomness();

// The phase keys of one session on their way from bytes to PhaseKeys. Where draws are recorded
// (prg::reuse_is_checked()), each key records its own, and a key that occurs twice in the session
// is Error("E-prg-reuse").
class KeyRing {
 public:
  // Expands `key` into `keys`. `holders`: places of this endpoint that draw from it.
  void put(PhaseKeys& keys, const std::string& name, net::RunId run, unsigned holders,
           std::span<const std::byte, 16> key);

 private:
  const bool checked_ = prg::reuse_is_checked();
  std::set<std::array<std::byte, 32>> seen_;  // SHA-256 of every key so far
};

class KeySource {
 public:
  virtual ~KeySource() = default;
  // Agrees with the peers on all keys of a run (0: setup). Blocks.
  virtual PhaseKeys agree(const std::vector<std::string>& names, net::RunId run) = 0;
};

// Keys for real: of two endpoints from their TLS session's exporter; of more, 32 bytes drawn by the
// endpoint of the last holder (an owner, where there is one) and sent to the others in a control
// frame, then HKDF. Keys that one endpoint holds alone are drawn at random.
std::unique_ptr<KeySource> transport_keys(net::Transport& transport, const Plan& plan,
                                          const net::ProgramHash& program);

namespace testing {

// TEST ONLY, nothing is secret: key(name, phase) = first 16 bytes of
// SHA-256("mpcc-test-key" || seed as u64 LE || name || "/" || phase), phase "setup" or "run:<id>".
// Used by InMemoryCluster alone (cluster.h); an engine over any other transport cannot be given it,
// and since it has a source file of its own, the program of a party does not even contain it.
std::unique_ptr<KeySource> seeded_keys(std::uint64_t seed);

}  // namespace testing
}  // namespace mpcc::graph
