// A link that does one thing wrong, for tests of everything above it. The fault is applied to the
// encoded frames, below all checks of the sender and above the inner link (hence above TLS). Wrap
// it around a shaped link, not the other way round: it needs whole frames.
#pragma once

#include <cstdint>
#include <functional>

#include "net/link.h"
#include "net/transport.h"

namespace mpcc::net {

enum class FaultKind {
  drop,       // cut the connection instead of sending the message
  stall,      // send nothing any more, keep the connection: a paused or hung peer
  delay,      // hold this and all later frames back for `duration`
  corrupt,    // flip one bit of the byte at `offset` of the frame (header 0..63, then payload)
  truncate,   // leave out the last `offset` bytes of the frame, then end the stream
  duplicate,  // send the frame twice
  replay,     // send the data frame before it again, in its place
  reorder,    // exchange it with the frame after it
  rewrite,    // change header fields, with correct checksums: a peer that lies
};

struct Fault {
  FaultKind kind = FaultKind::drop;
  std::uint64_t message = 0;  // index of the data frame that it hits, counted on this link from 0
  std::size_t offset = 0;     // corrupt, truncate
  Duration duration{0};       // delay
  std::function<void(FrameHeader&)> rewrite;
};

// Applies the fault to what endpoint `self` sends to `peer`; other links stay as they are.
LinkDecorator faulty(std::uint32_t self, std::uint32_t peer, Fault fault);

}  // namespace mpcc::net
