// Key derivation: HKDF-SHA256 (RFC 5869) through OpenSSL, and the labels used with it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/secret_buffer.h"
#include "net/transport.h"

namespace mpcc::net {

// Fills `out` (at most 255 * 32 bytes). Throws Error("E-net-crypto").
void hkdf_sha256(std::span<const std::byte> key, std::span<const std::byte> salt,
                 std::span<const std::byte> info, std::span<std::byte> out);

std::array<std::byte, 32> sha256(std::span<const std::byte> bytes);

// Cryptographically strong random bytes of the operating system's generator, through OpenSSL.
void random_bytes(std::span<std::byte> out);

// A key of a holder set from a secret that its holders share: the link's exporter for two, the 32
// bytes of a key-seed control message for three.
//   HKDF(key = secret, salt = program hash,
//        info = "mpcc prg v1" 0x00, session u64, run u64, length of holders u32, holders)
// `session` is the link's session id for two holders; for a seed, which is fresh, it is 0.
PrgKey derive_prg_key(std::span<const std::byte> secret, std::uint64_t session,
                      std::string_view holders, RunId run, const ProgramHash& program);

}  // namespace mpcc::net
