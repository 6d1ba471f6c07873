#include "graph/keys.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"
#include "base/random.h"
#include "base/secret_buffer.h"
#include "net/keys.h"

namespace mpcc::graph {
namespace {

constexpr std::size_t kSeedBytes = 32;

void add_key(const Op& op, bool online, std::set<std::string>& names) {
  if (op.code != OpCode::DrawRing && op.code != OpCode::DrawBits) return;
  if ((op.attributes.text("phase") == "online") == online) names.insert(op.attributes.text("key"));
}

class TransportKeys final : public KeySource {
 public:
  TransportKeys(net::Transport& transport, const Plan& plan, const net::ProgramHash& program)
      : transport_(transport),
        endpoint_of_place_(plan.endpoint_of_place),
        self_(plan.self),
        program_(program) {}

  PhaseKeys agree(const std::vector<std::string>& names, net::RunId run) override;

 private:
  struct Holders {
    std::set<std::uint32_t> endpoints;
    std::uint32_t drawer = 0;
    unsigned here = 0;  // places of this endpoint
  };
  Holders holders(const std::string& name) const {
    Holders h;
    for (const Place place : key_holders(name)) {
      const std::uint32_t e = endpoint_of_place_[index_of(place)];
      if (e == 0xffffffff)
        throw Error("E-graph-place", "no endpoint hosts a holder of the key " + name);
      h.endpoints.insert(e);
      h.drawer = e;
      if (e == self_) ++h.here;
    }
    return h;
  }

  net::Transport& transport_;
  std::vector<std::uint32_t> endpoint_of_place_;
  std::uint32_t self_;
  net::ProgramHash program_;
  KeyRing ring_;
};

// Overwritten on every way out.
struct Wiped {
  net::PrgKey key;
  ~Wiped() { secure_zero(key.data(), key.size()); }
};

PhaseKeys TransportKeys::agree(const std::vector<std::string>& names, net::RunId run) {
  PhaseKeys keys;
  const auto put = [&](const std::string& name, const Wiped& wiped) {
    ring_.put(keys, name, run, holders(name).here, wiped.key);
  };
  // Seeds to and from each peer, in the order of the names.
  std::map<std::uint32_t, std::vector<std::string>> from;
  std::map<std::uint32_t, SecretBuffer> to;
  std::map<std::uint32_t, std::size_t> filled;
  for (const std::string& name : names) {
    const Holders h = holders(name);
    if (h.endpoints.size() < 3 || !h.endpoints.contains(self_)) continue;
    if (h.drawer != self_)
      from[h.drawer].push_back(name);
    else
      for (const std::uint32_t peer : h.endpoints)
        if (peer != self_) filled[peer] += kSeedBytes;
  }
  for (auto& [peer, bytes] : filled) {
    to.emplace(peer, SecretBuffer(bytes));
    bytes = 0;
  }
  for (const std::string& name : names) {
    const Holders h = holders(name);
    if (!h.endpoints.contains(self_)) continue;
    if (h.endpoints.size() == 1 || (h.endpoints.size() > 2 && h.drawer == self_)) {
      SecretBuffer seed(kSeedBytes);
      random_bytes(seed.bytes());
      for (const std::uint32_t peer : h.endpoints) {
        if (peer == self_) continue;
        std::memcpy(to.at(peer).data() + filled[peer], seed.data(), kSeedBytes);
        filled[peer] += kSeedBytes;
      }
      put(name, Wiped{net::derive_prg_key(seed.bytes(), 0, name, run, program_)});
    } else if (h.endpoints.size() == 2) {
      std::uint32_t peer = *h.endpoints.begin();
      if (peer == self_) peer = *h.endpoints.rbegin();
      put(name, Wiped{transport_.derive_key(peer, name, run, program_)});
    }
  }
  for (const auto& [peer, seeds] : to)
    transport_.send_control(peer, net::FrameKind::key_seed, run, seeds.bytes());
  for (const auto& [peer, list] : from) {
    const SecretBuffer seeds = transport_.receive_control(peer, net::FrameKind::key_seed, run);
    if (seeds.size() != list.size() * kSeedBytes)
      throw Error("E-net-frame", "key seeds of another number of keys",
                  transport_.endpoints()[peer].name);
    for (std::size_t i = 0; i < list.size(); ++i)
      put(list[i], Wiped{net::derive_prg_key(seeds.bytes().subspan(i * kSeedBytes, kSeedBytes), 0,
                                             list[i], run, program_)});
  }
  return keys;
}

}  // namespace

std::vector<std::string> key_names(const Program& program, bool online) {
  std::set<std::string> names;
  for (const Op& op : program.ops) {
    add_key(op, online, names);
    if (op.body)
      for (const Op& inner : op.body->ops) add_key(inner, online, names);
  }
  return {names.begin(), names.end()};
}

void check_randomness() {
  (void)prg::aes_kernel();
  random_bytes({});  // the first call tests the source
}

void KeyRing::put(PhaseKeys& keys, const std::string& name, net::RunId run, unsigned holders,
                  std::span<const std::byte, 16> key) {
  prg::Aes128 expanded(key);
  if (checked_) {
    const std::string text = name + " of run " + std::to_string(run);
    if (!seen_.insert(net::sha256(key)).second)
      throw Error("E-prg-reuse", "the key " + text + " has served this session before");
    expanded.record_draws(text, holders);
  }
  keys.emplace(name, std::move(expanded));
}

std::unique_ptr<KeySource> transport_keys(net::Transport& transport, const Plan& plan,
                                          const net::ProgramHash& program) {
  return std::make_unique<TransportKeys>(transport, plan, program);
}

}  // namespace mpcc::graph
