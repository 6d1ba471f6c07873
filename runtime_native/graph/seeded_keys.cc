// TEST ONLY: see testing::seeded_keys in keys.h. Apart from keys.cc, so that the linker takes it
// from the library only for programs with an InMemoryCluster.
#include <string>

#include "graph/keys.h"
#include "net/keys.h"

namespace mpcc::graph {
namespace {

class SeededKeys final : public KeySource {
 public:
  explicit SeededKeys(std::uint64_t seed) : seed_(seed) {}

  PhaseKeys agree(const std::vector<std::string>& names, net::RunId run) override {
    PhaseKeys keys;
    const std::string phase = run == 0 ? "setup" : "run:" + std::to_string(run);
    for (const std::string& name : names) {
      std::string text = "mpcc-test-key";
      for (int i = 0; i < 8; ++i) text += static_cast<char>(seed_ >> (8 * i));
      text += name + "/" + phase;
      const auto hash = net::sha256(std::as_bytes(std::span(text)));
      // The cluster's endpoints host one place each, but for the owners, who share one.
      const bool both = name.find("client") != name.npos && name.find("model") != name.npos;
      ring_.put(keys, name, run, both ? 2 : 1, std::span(hash).first<16>());
    }
    return keys;
  }

 private:
  std::uint64_t seed_;
  KeyRing ring_;
};

}  // namespace

std::unique_ptr<KeySource> testing::seeded_keys(std::uint64_t seed) {
  return std::make_unique<SeededKeys>(seed);
}

}  // namespace mpcc::graph
