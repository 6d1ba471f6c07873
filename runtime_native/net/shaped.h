// A link that is as slow as a given network: latency and bandwidth, per direction. Works over any
// link; the delay is applied at the sender before the bytes are written, so what the inner link
// costs comes on top.
#pragma once

#include <string_view>

#include "net/link.h"
#include "net/transport.h"

namespace mpcc::net {

struct NetworkProfile {
  double bits_per_second = 0;  // 0: unlimited
  Duration one_way{0};
};

// 10 Gbit/s and 0.1 ms one way.
NetworkProfile lan_profile();
// 352 Mbit/s and 20 ms one way.
NetworkProfile wan_profile();
// "none", "lan" or "wan"; throws Error("E-net-usage") otherwise.
NetworkProfile network_profile(std::string_view name);

// Bytes leave one after the other at the given rate, in slices of 64 KiB, and reach the inner link
// one_way later. Frames count with their headers, without TLS records.
LinkDecorator shaped(const NetworkProfile& profile);

// Applies `inner` first, then `outer` around it.
LinkDecorator compose(LinkDecorator inner, LinkDecorator outer);

}  // namespace mpcc::net
