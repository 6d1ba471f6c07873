// One TLS 1.3 connection without its socket: ciphertext in and out through memory, so that whoever
// holds the socket decides when to read and write, and many frames leave in one write.
#pragma once

#include <openssl/ssl.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/secret_buffer.h"

namespace mpcc::net {

// PEM text, or the name of a file with it. The text of a private key lies in the caller's memory;
// prefer a file, whose content is overwritten after use.
class Pem {
 public:
  static Pem file(std::string path) { return Pem(std::move(path), true); }
  static Pem text(std::string pem) { return Pem(std::move(pem), false); }

  // The PEM text. Throws Error("E-net-tls") when the file cannot be read.
  std::string load() const;
  // As load(), for a private key: its file must be its owner's alone. Throws as read_private_key().
  SecretBuffer load_private() const;
  std::string describe() const { return is_file_ ? value_ : "PEM text in memory"; }

 private:
  Pem(std::string value, bool is_file) : value_(std::move(value)), is_file_(is_file) {}
  std::string value_;
  bool is_file_;
};

// What a peer is trusted with, and who this side is: TLS 1.3 only, both sides show certificates
// that chain to `ca`, no session tickets, no resumption, no early data. There is no way to turn the
// verification off.
class TlsContext {
 public:
  TlsContext(const Pem& ca, const Pem& certificate, const Pem& private_key);
  SSL_CTX* get() const noexcept { return context_.get(); }

 private:
  struct Free {
    void operator()(SSL_CTX* p) const { SSL_CTX_free(p); }
  };
  std::unique_ptr<SSL_CTX, Free> context_;
};

enum class TlsRole { server, client };

// Not thread safe: one thread at a time. All failures are Error("E-net-tls").
class TlsSession {
 public:
  TlsSession(const TlsContext& context, TlsRole role);
  TlsSession(TlsSession&&) noexcept = default;

  // Goes on with the handshake; true when it is finished. Afterwards the peer's chain is verified.
  bool handshake();
  // Whether a DNS name of the peer certificate's subjectAltName equals `name` exactly. The common
  // name and wildcards count for nothing.
  bool peer_is_named(const std::string& name) const;
  // Those names, for errors.
  std::string peer_names() const;

  // Decrypts into `out`; 0 when more ciphertext is needed. Sets `ended` after the peer's
  // close_notify.
  std::size_t read(std::span<std::byte> out, bool& ended);
  // Encrypts everything (at most a few hundred KiB at a time, please).
  void write(std::span<const std::byte> bytes);
  void write_close_notify();

  void export_key(const std::string& label, std::span<const std::byte> context,
                  std::span<std::byte> out);
  std::string describe() const;  // "TLSv1.3 TLS_AES_128_GCM_SHA256"

  // Ciphertext that has arrived: write into input_room() and say how much.
  std::span<std::byte> input_room();
  void input_added(std::size_t n);
  // Ciphertext to be sent; say how much has been.
  std::span<const std::byte> output() const noexcept;
  void output_sent(std::size_t n) noexcept;

  // Encrypted bytes after which the keys are changed (RFC 8446, 5.5 limits AES-GCM to 2^24.5 full
  // records per key, 380 GB).
  std::size_t rekey_bytes = std::size_t{64} << 30;

 private:
  struct Buffer {
    std::vector<std::byte> bytes;
    std::size_t begin = 0;
    std::size_t end = 0;
  };
  struct Io {
    Buffer in;
    Buffer out;
    // Handshake messages that the peer sent after the handshake; counted by OpenSSL's callback.
    bool established = false;
    std::uint64_t key_updates = 0;
    bool unwanted = false;
  };
  struct Free {
    void operator()(SSL* p) const { SSL_free(p); }
  };
  static BIO_METHOD* bio_method();
  static int bio_read(BIO* bio, char* out, int n);
  static int bio_write(BIO* bio, const char* data, int n);
  static void on_message(int write, int version, int type, const void* data, std::size_t n,
                         SSL* ssl, void* io);
  // More key updates than an honest peer has reason for, or another message after the handshake.
  bool flooded() const noexcept;
  static long bio_ctrl(BIO* bio, int cmd, long num, void* ptr);

  [[noreturn]] void fail(const char* doing, int result) const;

  std::unique_ptr<Io> io_;  // stable address for the BIO; destroyed after ssl_
  std::unique_ptr<SSL, Free> ssl_;
  std::size_t since_rekey_ = 0;
  std::uint64_t decrypted_ = 0;
};

}  // namespace mpcc::net
