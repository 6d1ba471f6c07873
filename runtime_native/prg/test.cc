#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "prg/aes.h"
#include "testing/random.h"

namespace mpcc::prg {
namespace {

using Bytes = std::vector<std::byte>;

Bytes from_hex(const std::string& hex) {
  Bytes out;
  for (std::size_t i = 0; i < hex.size(); i += 2)
    out.push_back(static_cast<std::byte>(std::stoi(hex.substr(i, 2), nullptr, 16)));
  return out;
}

std::span<const std::byte, 16> block(const Bytes& b) { return std::span<const std::byte, 16>(b); }

bool equal(std::span<const std::byte> a, std::span<const std::byte> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

// Keystream by the definition: one raw block at a time.
Bytes by_definition(const Aes128& key, std::uint64_t stream, std::uint64_t first, std::size_t n) {
  Bytes out;
  for (std::uint64_t i = first; out.size() < n; ++i) {
    Bytes counter(16);
    for (std::size_t b = 0; b < 8; ++b) {
      counter[b] = static_cast<std::byte>(stream >> (8 * b));
      counter[8 + b] = static_cast<std::byte>(i >> (8 * b));
    }
    const auto x = key.encrypt(block(counter));
    out.insert(out.end(), x.begin(), x.end());
  }
  out.resize(n);
  return out;
}

TEST_CASE("known answers of the raw block") {
  const Bytes fips_key = from_hex("000102030405060708090a0b0c0d0e0f");
  CHECK(equal(Aes128(block(fips_key)).encrypt(block(from_hex("00112233445566778899aabbccddeeff"))),
              from_hex("69c4e0d86a7b0430d8cdb78070b4c55a")));
  // SP 800-38A, F.1.1 (ECB-AES128.Encrypt).
  const Aes128 key(block(from_hex("2b7e151628aed2a6abf7158809cf4f3c")));
  const std::pair<const char*, const char*> cases[] = {
      {"6bc1bee22e409f96e93d7e117393172a", "3ad77bb40d7a3660a89ecaf32466ef97"},
      {"ae2d8a571e03ac9c9eb76fac45af8e51", "f5d3d58503b9699de785895a96fdbaaf"},
      {"30c81c46a35ce411e5fbc1191a0a52ef", "43b1cd7f598ece23881b00e3ed030688"},
      {"f69f2445df4f9b17ad2b417be66c3710", "7b0c785e27e8ad3f8223207104725dd4"}};
  for (const auto& [plain, cipher] : cases)
    CHECK(equal(key.encrypt(block(from_hex(plain))), from_hex(cipher)));
}

TEST_CASE("every variant is the definition, at every length and offset") {
  testing::TestRandom random(1);
  const Bytes key_bytes = random.bytes(16);
  for (const AesKernel* kernel : aes_kernels()) {
    if (!kernel->supported(cpu_features())) {
      MESSAGE("skipped: " << std::string(kernel->name) << " (this CPU lacks it)");
      continue;
    }
    MESSAGE("tested: " << std::string(kernel->name));
    REQUIRE(self_test(*kernel));
    const Aes128 key(block(key_bytes), *kernel);
    const Aes128 reference(block(key_bytes));  // of the best variant
    for (const std::uint64_t first : {0ULL, 5ULL, 0xfffffff0ULL, 0xfffffffffffffe00ULL}) {
      const std::uint64_t stream = random.next();
      const Bytes want = by_definition(reference, stream, first, 2048);
      REQUIRE(equal(by_definition(key, stream, first, 2048), want));
      for (std::size_t n = 0; n <= 1100; ++n) {
        Bytes out(n + 1, std::byte{0x5a});
        key.fill(stream, first, std::span(out).first(n));
        REQUIRE(std::memcmp(out.data(), want.data(), n) == 0);
        REQUIRE(out[n] == std::byte{0x5a});
      }
    }
    const std::uint64_t stream = random.next();
    const Bytes want = by_definition(key, stream, 0, 512);
    for (std::size_t offset = 0; offset < 70; ++offset)
      for (const std::size_t n : {0U, 1U, 7U, 15U, 16U, 17U, 100U, 300U}) {
        Bytes out(n);
        key.fill_at(stream, offset, out);
        REQUIRE(equal(out, std::span(want).subspan(offset, n)));
      }
  }
}

TEST_CASE("a self-test notices a wrong variant") {
  AesKernel broken = *aes_kernels()[0];
  REQUIRE(self_test(broken));
  broken.keystream = [](const std::uint8_t* schedule, std::uint64_t stream, std::uint64_t first,
                        std::uint8_t* out, std::size_t blocks) {
    // Right except that the block index is a 32-bit counter.
    for (std::size_t i = 0; i < blocks; ++i)
      aes_kernels()[0]->keystream(schedule, stream,
                                  (first & ~0xffffffffULL) | static_cast<std::uint32_t>(first + i),
                                  out + 16 * i, 1);
  };
  CHECK_FALSE(self_test(broken));
  broken = *aes_kernels()[0];
  broken.expand_key = [](const std::uint8_t* key, std::uint8_t* schedule) {
    aes_kernels()[0]->expand_key(key, schedule);
    schedule[175] ^= 1;
  };
  CHECK_FALSE(self_test(broken));
  broken = *aes_kernels()[0];
  broken.encrypt_block = [](const std::uint8_t*, const std::uint8_t*, std::uint8_t* out) {
    std::memset(out, 0, 16);
  };
  CHECK_FALSE(self_test(broken));
}

TEST_CASE("the variant: by the CPU, and no better than what is forced") {
  CpuFeatures f;
  const auto chosen = [&](std::optional<Isa> forced) {
    return std::string(choose_aes_kernel(f, forced).name);
  };
  CHECK(chosen({}) == "bitslice");
  f.aesni = true;
  CHECK(chosen({}) == "aesni");
  CHECK(chosen(Isa::scalar) == "bitslice");
  f.avx2 = f.bmi2 = f.vaes = true;
  CHECK(chosen({}) == "vaes256");
  f.avx512 = true;
  CHECK(chosen({}) == "vaes512");
  CHECK(chosen(Isa::avx2) == "vaes256");
  CHECK(chosen(Isa::scalar) == "bitslice");
  f.aesni = false;
  CHECK(chosen({}) == "bitslice");
}

TEST_CASE("a second draw of a block is noticed") {
  testing::TestRandom random(4);
  const auto recorded = [&](unsigned uses) {
    Aes128 key(block(random.bytes(16)));
    key.record_draws("P0+P1 of run 3", uses);
    return key;
  };
  const auto draw = [](const Aes128& key, std::uint64_t stream, std::uint64_t first,
                       std::size_t bytes) -> std::string {
    try {
      Bytes out(bytes);
      key.fill(stream, first, out);
      return "";
    } catch (const Error& e) {
      CHECK(e.code() == "E-prg-reuse");
      return e.message();
    }
  };
  Aes128 key = recorded(1);
  CHECK(draw(key, 1, 0, 32) == "");  // blocks 0, 1
  CHECK(draw(key, 1, 2, 17) == "");  // 2, 3
  CHECK(draw(key, 1, 8, 64) == "");  // 8 to 11
  CHECK(draw(key, 1, 4, 64) == "");  // 4 to 7
  CHECK(draw(key, 2, 0, 32) == "");  // another stream
  CHECK(draw(key, 1, 0, 0) == "");   // nothing
  CHECK(draw(key, 1, ~0ULL, 16) == "");
  CHECK(draw(key, 1, 3, 1) ==
        "blocks 3 to 3 of stream 1 of key P0+P1 of run 3 are drawn a second time");
  const Aes128 moved = std::move(key);
  CHECK(draw(moved, 1, 0, 16) != "");
  CHECK(draw(moved, 1, 11, 32) != "");
  CHECK(draw(moved, 1, ~0ULL, 1) != "");
  // Two holders in this process: each draws everything once, in parts of its own.
  const Aes128 shared = recorded(2);
  CHECK(draw(shared, 1, 0, 160) == "");
  CHECK(draw(shared, 1, 0, 48) == "");
  CHECK(draw(shared, 1, 3, 112) == "");
  CHECK(draw(shared, 1, 9, 16) != "");
  // Threads take disjoint parts.
  ThreadPool pool(3);
  Bytes out(1'000'001);
  const Aes128 threaded = recorded(1);
  threaded.fill(7, 0, out, pool);
  CHECK_THROWS_AS(threaded.fill(7, 62'500, std::span(out).first(1)), Error);
}

// Ranges against a plain count per block.
TEST_CASE("the ledger agrees with counting") {
  for (std::uint64_t seed = 0; seed < 200; ++seed) {
    testing::TestRandom random(seed);
    const auto uses = static_cast<unsigned>(1 + random.below(3));
    Ledger ledger("k", uses);
    std::vector<unsigned> drawn(40, 0);
    for (;;) {
      const std::size_t first = random.below(40), count = random.below(41 - first);
      bool again = false;
      for (std::size_t i = first; i < first + count; ++i) again = again || ++drawn[i] > uses;
      if (again) {
        CHECK_THROWS_AS(ledger.claim(5, first, count), Error);
        break;
      }
      CHECK_NOTHROW(ledger.claim(5, first, count));
    }
  }
}

TEST_CASE("threads change nothing") {
  testing::TestRandom random(2);
  const Aes128 key(block(random.bytes(16)));
  ThreadPool pool(3);
  Bytes one(3'000'017), many(one.size());
  key.fill(9, 4, one);
  key.fill(9, 4, many, pool);
  CHECK(equal(one, many));
}

TEST_CASE("streams and keys are independent, a stream has an end, keys move") {
  testing::TestRandom random(3);
  Aes128 key(block(random.bytes(16)));
  const Aes128 other(block(random.bytes(16)));
  Bytes a(64), b(64), c(64);
  key.fill(1, 0, a);
  key.fill(2, 0, b);
  other.fill(1, 0, c);
  CHECK_FALSE(equal(a, b));
  CHECK_FALSE(equal(a, c));
  Bytes past(17);
  key.fill(1, ~0ULL, std::span(past).first(16));
  CHECK_THROWS_AS(key.fill(1, ~0ULL, past), Error);
  const Aes128 moved = std::move(key);
  moved.fill(1, 0, b);
  CHECK(equal(a, b));
}

}  // namespace
}  // namespace mpcc::prg
