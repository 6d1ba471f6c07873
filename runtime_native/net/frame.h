// Frames: what travels on a link between two endpoints. docs/wire-format.md is this text for
// readers who do not read C++; keep the two equal.
//
// A link is an ordered byte stream in each direction (a TLS 1.3 connection, or memory). Each
// direction is a sequence of frames: a header of 64 bytes, then the payload. Integers are little
// endian.
//
// clang-format off
//   offset  bytes  field
//        0      4  magic            "MPCF"
//        4      1  version          2
//        5      1  kind             FrameKind
//        6      1  flags            1: there is a payload checksum
//        7      1  reserved         0
//        8      8  session          of this link; 0 in a hello frame
//       16      8  run              0 is the setup phase, 1, 2, ... are runs; else 0
//       24      8  sequence         0, 1, 2, ... over all frames of this direction
//       32      4  message          id of the message (static in the program); 0 in control frames
//       36      4  depth            length of the longest chain of dependent messages ending here
//       40      8  payload bytes
//       48      8  payload checksum 0 without the flag
//       56      8  header checksum  over bytes 0..55
// clang-format on
//
// The checksums are no protection against an attacker: TLS is. They catch faults on links that do
// not authenticate what they carry (in memory, a test's injected fault); inside TLS a data frame
// has none for its payload. Their running time does not depend on the data.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace mpcc::net {

enum class FrameKind : std::uint8_t {
  hello = 1,     // first frame of each direction: who I am, which program, 32 random bytes
  ready = 2,     // I have declared the messages of this run; you may send them
  go = 3,        // start of a run, from the endpoint that drives it
  key_seed = 4,  // 32 random bytes of an owner for a key held by three places
  data = 5,      // one message
  abort = 6,     // I stop: which step and why
  bye = 7,       // I am done and will send nothing more
  alive = 8,     // I am still at work on this run: how many of its steps I have completed
  waits = 9,     // I have waited for long in this run: for which endpoint
};

std::string_view frame_kind_name(FrameKind kind) noexcept;

inline constexpr std::size_t kHeaderBytes = 64;
inline constexpr std::uint8_t kFrameVersion = 2;
// Control payloads (every kind but data) are refused above this size.
inline constexpr std::size_t kMaxControlBytes = 4096;
// The payload of an alive frame: one integer.
inline constexpr std::size_t kAliveBytes = 8;
// The payload of a waits frame: the index of an endpoint.
inline constexpr std::size_t kWaitsBytes = 4;

using HeaderBytes = std::array<std::byte, kHeaderBytes>;

struct FrameHeader {
  FrameKind kind = FrameKind::data;
  std::uint64_t session = 0;
  std::uint64_t run = 0;
  std::uint64_t sequence = 0;
  std::uint32_t message = 0;
  std::uint32_t depth = 0;
  std::uint64_t payload_bytes = 0;
  // 0 when there is none.
  std::uint64_t payload_checksum = 0;
  bool has_checksum = true;

  friend bool operator==(const FrameHeader&, const FrameHeader&) = default;
};

HeaderBytes encode_header(const FrameHeader& header);
// Throws Error("E-net-frame") for a wrong magic, version, kind, flag, reserved field or checksum.
// What the values mean (session, sequence, sizes) is checked by the endpoint, which knows what it
// expects.
FrameHeader decode_header(std::span<const std::byte, kHeaderBytes> bytes);

// 64-bit checksum of a byte stream given in pieces: eight lanes of h = rotate((h ^ word) * odd),
// folded. A change inside a single word always changes the sum.
class Checksum {
 public:
  Checksum() noexcept;
  void update(std::span<const std::byte> bytes) noexcept;
  std::uint64_t digest() const noexcept;

 private:
  static constexpr std::size_t kBlock = 64;
  std::array<std::uint64_t, 8> lanes_;
  std::array<std::byte, kBlock> tail_{};
  std::size_t tail_bytes_ = 0;
  std::uint64_t total_ = 0;
};

}  // namespace mpcc::net
