// Key derivation: HKDF-SHA256 (RFC 5869) through OpenSSL, and the labels used with it; and reading
// the long-term key of an endpoint.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/random.h"
#include "base/secret_buffer.h"
#include "net/transport.h"

namespace mpcc::net {

// Fills `out` (at most 255 * 32 bytes). Throws Error("E-net-crypto").
void hkdf_sha256(std::span<const std::byte> key, std::span<const std::byte> salt,
                 std::span<const std::byte> info, std::span<std::byte> out);

std::array<std::byte, 32> sha256(std::span<const std::byte> bytes);

// The content of an endpoint's private key file. Throws Error("E-net-tls") when it cannot be read,
// Error("E-net-key-mode") when its group or others may use it, or when it belongs to another user
// than this process's or root: a key that somebody else can read or replace identifies nobody.
SecretBuffer read_private_key(const std::string& path);

// A key of a holder set from a secret that its holders share: the link's exporter for two, the 32
// bytes of a key-seed control message for three.
//   HKDF(key = secret, salt = program hash,
//        info = "mpcc prg v1" 0x00, session u64, run u64, length of holders u32, holders)
// `session` is the link's session id for two holders; for a seed, which is fresh, it is 0.
PrgKey derive_prg_key(std::span<const std::byte> secret, std::uint64_t session,
                      std::string_view holders, RunId run, const ProgramHash& program);

}  // namespace mpcc::net
