// Endpoints in one process, connected through memory. For tests and for running a whole program in
// one process; frames are encoded and checked exactly as on a network.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "net/transport.h"

namespace mpcc::net {

// One transport per endpoint; link keys come from the operating system's random generator.
std::vector<std::unique_ptr<Transport>> make_in_memory_network(
    const std::vector<EndpointInfo>& endpoints, const TransportOptions& options = {});

// TEST ONLY: all keys follow from the seed, so runs can be repeated bit for bit and nothing is
// secret. Only this transport has such a constructor; one that leaves the process has no seed.
struct FixedSeed {
  std::uint64_t value = 0;
};
std::vector<std::unique_ptr<Transport>> make_in_memory_network(
    const std::vector<EndpointInfo>& endpoints, FixedSeed seed,
    const TransportOptions& options = {});

// The two ends of one link, for tests of the layers above a link. Both derive keys from `secret`.
std::pair<std::unique_ptr<Link>, std::unique_ptr<Link>> make_memory_links(
    std::span<const std::byte> secret);

}  // namespace mpcc::net
