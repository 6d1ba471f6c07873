#include "net/keys.h"

#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/params.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "base/error.h"
#include "net/tls_link.h"

namespace mpcc::net {
namespace {

constexpr off_t kMaxKeyFile = 64 << 10;

struct FreeKdf {
  void operator()(EVP_KDF* p) const { EVP_KDF_free(p); }
  void operator()(EVP_KDF_CTX* p) const { EVP_KDF_CTX_free(p); }
};

OSSL_PARAM octets(const char* name, std::span<const std::byte> bytes) {
  // OpenSSL takes a non-const pointer and only reads through it. A null pointer would mean
  // "absent", which the KDF refuses for the key; a salt or info of no bytes is legal.
  static unsigned char none = 0;
  void* data = bytes.empty() ? static_cast<void*>(&none)
                             : const_cast<void*>(static_cast<const void*>(bytes.data()));
  return OSSL_PARAM_construct_octet_string(name, data, bytes.size());
}

}  // namespace

void hkdf_sha256(std::span<const std::byte> key, std::span<const std::byte> salt,
                 std::span<const std::byte> info, std::span<std::byte> out) {
  const std::unique_ptr<EVP_KDF, FreeKdf> kdf(EVP_KDF_fetch(nullptr, "HKDF", nullptr));
  const std::unique_ptr<EVP_KDF_CTX, FreeKdf> context(kdf ? EVP_KDF_CTX_new(kdf.get()) : nullptr);
  char digest[] = "SHA256";
  std::vector<OSSL_PARAM> params = {
      OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, digest, 0),
      octets(OSSL_KDF_PARAM_KEY, key), octets(OSSL_KDF_PARAM_INFO, info)};
  if (!salt.empty()) params.push_back(octets(OSSL_KDF_PARAM_SALT, salt));
  params.push_back(OSSL_PARAM_construct_end());
  if (!context || EVP_KDF_derive(context.get(), reinterpret_cast<unsigned char*>(out.data()),
                                 out.size(), params.data()) != 1)
    throw Error("E-net-crypto", "OpenSSL cannot compute HKDF-SHA256");
}

std::array<std::byte, 32> sha256(std::span<const std::byte> bytes) {
  std::array<std::byte, 32> out{};
  unsigned int n = 0;
  if (EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(out.data()), &n,
                 EVP_sha256(), nullptr) != 1 ||
      n != out.size())
    throw Error("E-net-crypto", "OpenSSL cannot compute SHA-256");
  return out;
}

SecretBuffer read_private_key(const std::string& path) {
  const auto fail = [&](const std::string& why) {
    throw Error("E-net-tls", "cannot read " + path + ": " + why);
  };
  // A special file may block on open.
  const UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!fd) fail(std::strerror(errno));
  // Of what was opened, not of the path: that may be another file by now.
  struct stat s{};
  if (::fstat(fd.get(), &s) != 0) fail(std::strerror(errno));
  if (!S_ISREG(s.st_mode)) fail("not a regular file");
  if ((s.st_mode & 077) != 0) {
    char mode[8];
    std::snprintf(mode, sizeof mode, "%04o", static_cast<unsigned>(s.st_mode & 07777));
    throw Error("E-net-key-mode", "the private key " + path + " is open to others (mode " + mode +
                                      "); run: chmod 600 " + path);
  }
  if (s.st_uid != ::geteuid() && s.st_uid != 0)
    throw Error("E-net-key-mode", "the private key " + path + " belongs to user " +
                                      std::to_string(s.st_uid) + ", not to this process's user " +
                                      std::to_string(::geteuid()) + " or root");
  if (s.st_size <= 0 || s.st_size > kMaxKeyFile) fail("empty, or too large for a key");
  SecretBuffer text(static_cast<std::size_t>(s.st_size));
  std::size_t filled = 0;
  while (filled < text.size()) {
    const ssize_t n = ::read(fd.get(), text.data() + filled, text.size() - filled);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) fail(std::strerror(errno));
    if (n == 0) fail("it became shorter");
    filled += static_cast<std::size_t>(n);
  }
  return text;
}

PrgKey derive_prg_key(std::span<const std::byte> secret, std::uint64_t session,
                      std::string_view holders, RunId run, const ProgramHash& program) {
  std::vector<std::byte> info;
  const auto append = [&info](const void* data, std::size_t n) {
    const auto* p = static_cast<const std::byte*>(data);
    info.insert(info.end(), p, p + n);
  };
  constexpr char kLabel[] = "mpcc prg v1";  // with its terminating zero
  append(kLabel, sizeof kLabel);
  append(&session, sizeof session);
  append(&run, sizeof run);
  const auto length = static_cast<std::uint32_t>(holders.size());
  append(&length, sizeof length);
  append(holders.data(), holders.size());
  PrgKey key{};
  hkdf_sha256(secret, program, info, key);
  return key;
}

}  // namespace mpcc::net
