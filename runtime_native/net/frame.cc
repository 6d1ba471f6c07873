#include "net/frame.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <string>

#include "base/error.h"

namespace mpcc::net {
namespace {

static_assert(std::endian::native == std::endian::little, "the wire is little endian");

constexpr std::uint8_t kHasChecksum = 1;  // flag
constexpr std::array<char, 4> kMagic = {'M', 'P', 'C', 'F'};
constexpr std::uint64_t kMultiplier = 0x9e3779b97f4a7c15ULL;  // odd, hence invertible mod 2^64

template <class T>
void put(HeaderBytes& out, std::size_t offset, T value) {
  std::memcpy(out.data() + offset, &value, sizeof value);
}

template <class T>
T get(std::span<const std::byte, kHeaderBytes> in, std::size_t offset) {
  T value;
  std::memcpy(&value, in.data() + offset, sizeof value);
  return value;
}

void absorb(std::array<std::uint64_t, 8>& lanes, const std::byte* block) noexcept {
  std::array<std::uint64_t, 8> words;
  std::memcpy(words.data(), block, sizeof words);
  for (std::size_t i = 0; i < lanes.size(); ++i)
    lanes[i] = std::rotl((lanes[i] ^ words[i]) * kMultiplier, 29);
}

std::uint64_t header_checksum(std::span<const std::byte, kHeaderBytes> bytes) {
  Checksum sum;
  sum.update(bytes.first<56>());
  return sum.digest();
}

}  // namespace

std::string_view frame_kind_name(FrameKind kind) noexcept {
  switch (kind) {
    case FrameKind::hello:
      return "hello";
    case FrameKind::ready:
      return "ready";
    case FrameKind::go:
      return "go";
    case FrameKind::key_seed:
      return "key-seed";
    case FrameKind::data:
      return "data";
    case FrameKind::abort:
      return "abort";
    case FrameKind::bye:
      return "bye";
    case FrameKind::alive:
      return "alive";
    case FrameKind::waits:
      return "waits";
  }
  return "unknown";
}

HeaderBytes encode_header(const FrameHeader& header) {
  HeaderBytes out{};
  std::memcpy(out.data(), kMagic.data(), kMagic.size());
  put<std::uint8_t>(out, 4, kFrameVersion);
  put<std::uint8_t>(out, 5, static_cast<std::uint8_t>(header.kind));
  put<std::uint8_t>(out, 6, header.has_checksum ? kHasChecksum : 0);
  put<std::uint64_t>(out, 8, header.session);
  put<std::uint64_t>(out, 16, header.run);
  put<std::uint64_t>(out, 24, header.sequence);
  put<std::uint32_t>(out, 32, header.message);
  put<std::uint32_t>(out, 36, header.depth);
  put<std::uint64_t>(out, 40, header.payload_bytes);
  put<std::uint64_t>(out, 48, header.payload_checksum);
  put<std::uint64_t>(out, 56, header_checksum(out));
  return out;
}

FrameHeader decode_header(std::span<const std::byte, kHeaderBytes> bytes) {
  const auto refuse = [](const std::string& reason) { throw Error("E-net-frame", reason); };
  if (std::memcmp(bytes.data(), kMagic.data(), kMagic.size()) != 0)
    refuse("not a frame: wrong magic bytes");
  if (const auto version = get<std::uint8_t>(bytes, 4); version != kFrameVersion)
    refuse("frame version " + std::to_string(version) + ", this side speaks " +
           std::to_string(kFrameVersion));
  if (get<std::uint64_t>(bytes, 56) != header_checksum(bytes))
    refuse("damaged frame header: checksum does not match");
  const auto kind = get<std::uint8_t>(bytes, 5);
  if (kind < static_cast<std::uint8_t>(FrameKind::hello) ||
      kind > static_cast<std::uint8_t>(FrameKind::waits))
    refuse("unknown frame kind " + std::to_string(kind));
  const auto flags = get<std::uint8_t>(bytes, 6);
  if ((flags & ~kHasChecksum) != 0) refuse("unknown flag in the frame header");
  if (get<std::uint8_t>(bytes, 7) != 0) refuse("reserved field of the frame header is not zero");
  FrameHeader h;
  h.has_checksum = flags != 0;
  h.kind = static_cast<FrameKind>(kind);
  h.session = get<std::uint64_t>(bytes, 8);
  h.run = get<std::uint64_t>(bytes, 16);
  h.sequence = get<std::uint64_t>(bytes, 24);
  h.message = get<std::uint32_t>(bytes, 32);
  h.depth = get<std::uint32_t>(bytes, 36);
  h.payload_bytes = get<std::uint64_t>(bytes, 40);
  h.payload_checksum = get<std::uint64_t>(bytes, 48);
  // Only data, whose bytes are what it costs to sum up.
  if (!h.has_checksum && (h.kind != FrameKind::data || h.payload_checksum != 0))
    refuse("the frame header says that there is no payload checksum where one belongs");
  return h;
}

Checksum::Checksum() noexcept {
  for (std::size_t i = 0; i < lanes_.size(); ++i) lanes_[i] = kMultiplier * (i + 1);
}

void Checksum::update(std::span<const std::byte> bytes) noexcept {
  if (bytes.empty()) return;
  total_ += bytes.size();
  if (tail_bytes_ != 0) {
    const std::size_t n = std::min(kBlock - tail_bytes_, bytes.size());
    std::memcpy(tail_.data() + tail_bytes_, bytes.data(), n);
    tail_bytes_ += n;
    bytes = bytes.subspan(n);
    if (tail_bytes_ < kBlock) return;
    absorb(lanes_, tail_.data());
    tail_bytes_ = 0;
  }
  std::array<std::uint64_t, 8> lanes = lanes_;
  while (bytes.size() >= kBlock) {
    absorb(lanes, bytes.data());
    bytes = bytes.subspan(kBlock);
  }
  lanes_ = lanes;
  if (!bytes.empty()) std::memcpy(tail_.data(), bytes.data(), bytes.size());
  tail_bytes_ = bytes.size();
}

std::uint64_t Checksum::digest() const noexcept {
  std::array<std::uint64_t, 8> lanes = lanes_;
  if (tail_bytes_ != 0) {
    std::array<std::byte, kBlock> block{};
    std::memcpy(block.data(), tail_.data(), tail_bytes_);
    absorb(lanes, block.data());
  }
  std::uint64_t h = total_ * kMultiplier;
  for (std::uint64_t lane : lanes) {
    h = (h ^ lane) * kMultiplier;
    h ^= h >> 32;
  }
  return h;
}

}  // namespace mpcc::net
