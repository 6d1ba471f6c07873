#include "net/frame.h"

#include <doctest/doctest.h>

#include <algorithm>
#include <set>
#include <vector>

#include "net/keys.h"
#include "net/tests/network.h"

namespace mpcc::net {
namespace {

using testing::contains;
using testing::error_of;

FrameHeader some_header() {
  FrameHeader h;
  h.kind = FrameKind::data;
  h.session = 0x0123456789abcdef;
  h.run = 3;
  h.sequence = 41;
  h.message = 17;
  h.depth = 5;
  h.payload_bytes = 4096;
  h.payload_checksum = 99;
  return h;
}

TEST_CASE("a header survives encoding") {
  FrameHeader h = some_header();
  CHECK(decode_header(encode_header(h)) == h);
  h.has_checksum = false;
  h.payload_checksum = 0;
  CHECK(decode_header(encode_header(h)) == h);
}

TEST_CASE("the layout of a header is fixed") {
  const HeaderBytes b = encode_header(some_header());
  const auto at = [&](std::size_t i) { return std::to_integer<int>(b[i]); };
  CHECK(at(0) == 'M');
  CHECK(at(3) == 'F');
  CHECK(at(4) == 2);
  CHECK(at(5) == 5);
  CHECK(at(6) == 1);
  CHECK(at(7) == 0);
  CHECK(at(8) == 0xef);
  CHECK(at(15) == 0x01);
  CHECK(at(16) == 3);
  CHECK(at(24) == 41);
  CHECK(at(32) == 17);
  CHECK(at(36) == 5);
  CHECK(at(41) == 16);
  CHECK(at(48) == 99);
}

TEST_CASE("every single changed bit of a header is noticed") {
  const HeaderBytes good = encode_header(some_header());
  for (std::size_t bit = 0; bit < 8 * kHeaderBytes; ++bit) {
    HeaderBytes bad = good;
    bad[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK_MESSAGE(error_of([&] { decode_header(bad); }).code() == "E-net-frame", "bit ", bit);
  }
}

TEST_CASE("random headers are refused, never misread") {
  testing::TestRandom random(1);
  for (int i = 0; i < 20000; ++i) {
    HeaderBytes b = encode_header(some_header());
    for (std::size_t n = 1 + random.below(6); n > 0; --n)
      b[random.below(kHeaderBytes)] = static_cast<std::byte>(random.next());
    bool misread = false;
    const std::string code =
        error_of([&] { misread = encode_header(decode_header(b)) != b; }).code();
    CHECK(!misread);
    CHECK((code == "none" || code == "E-net-frame"));
  }
}

TEST_CASE("a header with an unknown kind and right checksum is refused") {
  FrameHeader h = some_header();
  h.kind = static_cast<FrameKind>(10);
  CHECK(
      contains(error_of([&] { decode_header(encode_header(h)); }).message(), "unknown frame kind"));
}

TEST_CASE("only data frames may lack the payload checksum, and then have none") {
  FrameHeader h = some_header();
  h.has_checksum = false;
  const auto refusal = [&] { return error_of([&] { decode_header(encode_header(h)); }); };
  CHECK(contains(refusal().message(), "no payload checksum where one belongs"));
  h.payload_checksum = 0;
  CHECK(refusal().code() == "none");
  for (int kind = 1; kind <= 9; ++kind) {
    h.kind = static_cast<FrameKind>(kind);
    CHECK((refusal().code() == "E-net-frame") == (h.kind != FrameKind::data));
  }
}

TEST_CASE("the checksum does not depend on how the bytes are cut") {
  const auto bytes = testing::TestRandom(2).bytes(1000);
  Checksum whole;
  whole.update(bytes);
  testing::TestRandom random(3);
  for (int round = 0; round < 50; ++round) {
    Checksum pieces;
    for (std::size_t at = 0; at < bytes.size();) {
      const std::size_t n = std::min(random.below(150), bytes.size() - at);
      pieces.update(std::span(bytes).subspan(at, n));
      at += n;
    }
    CHECK(pieces.digest() == whole.digest());
  }
}

std::uint64_t checksum_of(std::span<const std::byte> bytes) {
  Checksum c;
  c.update(bytes);
  return c.digest();
}

TEST_CASE("the checksum notices every changed bit, every changed length and swapped words") {
  std::set<std::uint64_t> lengths;
  for (std::size_t n = 0; n < 200; ++n) lengths.insert(checksum_of(std::vector<std::byte>(n)));
  CHECK(lengths.size() == 200);
  auto v = testing::TestRandom(4).bytes(150);
  const std::uint64_t good = checksum_of(v);
  for (std::size_t bit = 0; bit < 8 * v.size(); ++bit) {
    v[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
    CHECK_MESSAGE(checksum_of(v) != good, "bit ", bit);
    v[bit / 8] ^= static_cast<std::byte>(1 << (bit % 8));
  }
  std::swap_ranges(v.begin(), v.begin() + 8, v.begin() + 64);
  CHECK(checksum_of(v) != good);
}

std::vector<std::byte> hex(const std::string& text) {
  std::vector<std::byte> out;
  for (std::size_t i = 0; i < text.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(text.substr(i, 2), nullptr, 16)));
  return out;
}

TEST_CASE("HKDF-SHA256: RFC 5869, test cases 1 and 3") {
  std::vector<std::byte> out(42);
  const std::vector<std::byte> key(22, std::byte{0x0b});
  hkdf_sha256(key, hex("000102030405060708090a0b0c"), hex("f0f1f2f3f4f5f6f7f8f9"), out);
  CHECK(out ==
        hex("3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b88718"
            "5865"));
  hkdf_sha256(key, {}, {}, out);
  CHECK(out ==
        hex("8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a"
            "96c8"));
}

TEST_CASE("a PRG key depends on every part of its name") {
  const std::vector<std::byte> secret(32, std::byte{1});
  const std::vector<std::byte> other(32, std::byte{2});
  ProgramHash program{};
  ProgramHash program2{};
  program2[31] = std::byte{1};
  std::set<PrgKey> keys = {derive_prg_key(secret, 1, "P0+P1", 0, program),
                           derive_prg_key(other, 1, "P0+P1", 0, program),
                           derive_prg_key(secret, 2, "P0+P1", 0, program),
                           derive_prg_key(secret, 1, "P0+P2", 0, program),
                           derive_prg_key(secret, 1, "P0+P1", 1, program),
                           derive_prg_key(secret, 1, "P0+P1", 0, program2)};
  CHECK(keys.size() == 6);
  CHECK(derive_prg_key(secret, 1, "P0+P1", 0, program) ==
        derive_prg_key(secret, 1, "P0+P1", 0, program));
}

}  // namespace
}  // namespace mpcc::net
