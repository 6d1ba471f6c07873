#include "net/tls_session.h"

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <algorithm>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

#include "base/checked.h"
#include "net/keys.h"

namespace mpcc::net {
namespace {

constexpr std::size_t kInputBytes = std::size_t{256} << 10;
// A peer's certificates and what goes with them in its handshake; OpenSSL's default is 100 KiB.
constexpr long kMaxCertificateBytes = 32L << 10;
// OpenSSL answers any number of key updates, each for the price of two key derivations. Peers of
// this kind send one per 64 GiB; this many are taken, and one more per so many bytes of data.
constexpr std::uint64_t kFreeKeyUpdates = 16;
constexpr std::uint64_t kBytesPerKeyUpdate = std::uint64_t{64} << 10;

struct FreeBio {
  void operator()(BIO* p) const { BIO_free(p); }
};
struct FreeX509 {
  void operator()(X509* p) const { X509_free(p); }
};
struct FreeKey {
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
};
struct FreeNames {
  void operator()(GENERAL_NAMES* p) const { GENERAL_NAMES_free(p); }
};

// OpenSSL's queue of reasons as text. Reasons only: no addresses, no data.
std::string openssl_reasons() {
  std::string text;
  while (const unsigned long e = ERR_get_error()) {
    const char* reason = ERR_reason_error_string(e);
    if (!text.empty()) text += "; ";
    text += reason ? reason : "error " + std::to_string(ERR_GET_REASON(e));
  }
  return text.empty() ? "no reason given" : text;
}

[[noreturn]] void tls_error(const std::string& message) { throw Error("E-net-tls", message); }

std::unique_ptr<BIO, FreeBio> memory_bio(const std::string& text) {
  std::unique_ptr<BIO, FreeBio> bio(BIO_new_mem_buf(text.data(), static_cast<int>(text.size())));
  if (!bio) tls_error("OpenSSL is out of memory");
  return bio;
}

// An encrypted key would make OpenSSL ask on the terminal.
int no_passphrase(char*, int, int, void*) { return 0; }

std::unique_ptr<X509, FreeX509> read_certificate(BIO* bio) {
  return std::unique_ptr<X509, FreeX509>(PEM_read_bio_X509(bio, nullptr, no_passphrase, nullptr));
}

std::vector<std::string> dns_names(SSL* ssl) {
  std::vector<std::string> names;
  const std::unique_ptr<X509, FreeX509> cert(SSL_get1_peer_certificate(ssl));
  if (!cert) return names;
  const std::unique_ptr<GENERAL_NAMES, FreeNames> alt(static_cast<GENERAL_NAMES*>(
      X509_get_ext_d2i(cert.get(), NID_subject_alt_name, nullptr, nullptr)));
  for (int i = 0; alt && i < sk_GENERAL_NAME_num(alt.get()); ++i) {
    const GENERAL_NAME* name = sk_GENERAL_NAME_value(alt.get(), i);
    if (name->type != GEN_DNS) continue;
    const ASN1_STRING* s = name->d.dNSName;
    names.emplace_back(reinterpret_cast<const char*>(ASN1_STRING_get0_data(s)),
                       static_cast<std::size_t>(ASN1_STRING_length(s)));
  }
  return names;
}

}  // namespace

std::string Pem::load() const {
  if (!is_file_) return value_;
  std::ifstream in(value_, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (!in || text.empty()) tls_error("cannot read " + value_);
  return text;
}

SecretBuffer Pem::load_private() const {
  if (is_file_) return read_private_key(value_);
  SecretBuffer text(value_.size());
  if (!value_.empty()) std::memcpy(text.data(), value_.data(), value_.size());
  return text;
}

TlsContext::TlsContext(const Pem& ca, const Pem& certificate, const Pem& private_key)
    : context_(SSL_CTX_new(TLS_method())) {
  ERR_clear_error();
  SSL_CTX* ctx = context_.get();
  if (!ctx) tls_error("OpenSSL cannot make a TLS context: " + openssl_reasons());
  SSL_CTX_set_default_passwd_cb(ctx, no_passphrase);
  SSL_CTX_set_options(ctx, SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION);
  SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
  SSL_CTX_set_mode(ctx, SSL_MODE_AUTO_RETRY);
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  SSL_CTX_set_verify_depth(ctx, 4);
  SSL_CTX_set_max_cert_list(ctx, kMaxCertificateBytes);
  SSL_CTX_set_max_early_data(ctx, 0);
  SSL_CTX_set_recv_max_early_data(ctx, 0);
  SSL_CTX_set_security_level(ctx, 2);
  if (SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_max_proto_version(ctx, TLS1_3_VERSION) != 1 ||
      SSL_CTX_set_num_tickets(ctx, 0) != 1 ||
      SSL_CTX_set_ciphersuites(
          ctx, "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256") != 1)
    tls_error("this OpenSSL does not offer TLS 1.3: " + openssl_reasons());

  {
    const std::string text = ca.load();
    const auto bio = memory_bio(text);
    X509_STORE* store = SSL_CTX_get_cert_store(ctx);
    int count = 0;
    while (const auto cert = read_certificate(bio.get())) {
      if (X509_STORE_add_cert(store, cert.get()) != 1)
        tls_error("CA certificates in " + ca.describe() + ": " + openssl_reasons());
      ++count;
    }
    ERR_clear_error();  // "no start line": the end of the file
    if (count == 0) tls_error("no CA certificate in " + ca.describe());
  }
  {
    const std::string text = certificate.load();
    const auto bio = memory_bio(text);
    const auto own = read_certificate(bio.get());
    if (!own || SSL_CTX_use_certificate(ctx, own.get()) != 1)
      tls_error("certificate in " + certificate.describe() + ": " + openssl_reasons());
    while (const auto cert = read_certificate(bio.get()))
      if (SSL_CTX_add1_chain_cert(ctx, cert.get()) != 1)
        tls_error("certificate chain in " + certificate.describe() + ": " + openssl_reasons());
    ERR_clear_error();
  }
  {
    {
      const SecretBuffer text = private_key.load_private();
      const std::unique_ptr<BIO, FreeBio> bio(  // reads `text` in place
          BIO_new_mem_buf(text.data(), narrow<int>(text.size())));
      if (!bio) tls_error("OpenSSL is out of memory");
      const std::unique_ptr<EVP_PKEY, FreeKey> key(
          PEM_read_bio_PrivateKey(bio.get(), nullptr, no_passphrase, nullptr));
      if (!key || SSL_CTX_use_PrivateKey(ctx, key.get()) != 1)
        tls_error(
            "private key in " + private_key.describe() +
            " (it must be unencrypted PEM and belong to the certificate): " + openssl_reasons());
    }
    if (SSL_CTX_check_private_key(ctx) != 1)
      tls_error("the private key in " + private_key.describe() +
                " does not belong to the certificate in " + certificate.describe());
  }
}

int TlsSession::bio_read(BIO* bio, char* out, int n) {
  Buffer& in = static_cast<Io*>(BIO_get_data(bio))->in;
  BIO_clear_retry_flags(bio);
  const std::size_t have = in.end - in.begin;
  if (static_cast<Io*>(BIO_get_data(bio))->unwanted) return -1;  // and no retry: read() says why
  if (have == 0) {
    BIO_set_retry_read(bio);
    return -1;
  }
  const std::size_t m = std::min(have, static_cast<std::size_t>(n));
  std::memcpy(out, in.bytes.data() + in.begin, m);
  in.begin += m;
  if (in.begin == in.end) in.begin = in.end = 0;
  return static_cast<int>(m);
}

int TlsSession::bio_write(BIO* bio, const char* data, int n) {
  Buffer& out = static_cast<Io*>(BIO_get_data(bio))->out;
  const auto m = static_cast<std::size_t>(n);
  if (out.bytes.size() - out.end < m) {
    try {
      out.bytes.resize(std::max(out.end + m, 2 * out.bytes.size()));
    } catch (const std::exception&) {
      return -1;  // OpenSSL is C: nothing may be thrown through it
    }
  }
  std::memcpy(out.bytes.data() + out.end, data, m);
  out.end += m;
  return n;
}

long TlsSession::bio_ctrl(BIO*, int cmd, long, void*) { return cmd == BIO_CTRL_FLUSH ? 1 : 0; }

BIO_METHOD* TlsSession::bio_method() {
  static BIO_METHOD* const method = [] {
    BIO_METHOD* m = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "mpcc memory");
    if (m) {
      BIO_meth_set_read(m, bio_read);
      BIO_meth_set_write(m, bio_write);
      BIO_meth_set_ctrl(m, bio_ctrl);
    }
    return m;
  }();
  return method;
}

TlsSession::TlsSession(const TlsContext& context, TlsRole role)
    : io_(std::make_unique<Io>()), ssl_(SSL_new(context.get())) {
  BIO* bio = bio_method() ? BIO_new(bio_method()) : nullptr;
  if (!ssl_ || !bio) {
    BIO_free(bio);
    tls_error("OpenSSL is out of memory");
  }
  io_->in.bytes.resize(kInputBytes);
  BIO_set_data(bio, io_.get());
  BIO_set_init(bio, 1);
  SSL_set_bio(ssl_.get(), bio, bio);
  SSL_set_msg_callback(ssl_.get(), on_message);
  SSL_set_msg_callback_arg(ssl_.get(), io_.get());
  if (role == TlsRole::server)
    SSL_set_accept_state(ssl_.get());
  else
    SSL_set_connect_state(ssl_.get());
}

void TlsSession::on_message(int write, int, int type, const void* data, std::size_t n, SSL*,
                            void* arg) {
  Io& io = *static_cast<Io*>(arg);
  if (write != 0 || !io.established || type != SSL3_RT_HANDSHAKE || n == 0) return;
  // Tickets, requests for certificates and the like: nobody here asks for any.
  if (*static_cast<const unsigned char*>(data) == SSL3_MT_KEY_UPDATE)
    ++io.key_updates;
  else
    io.unwanted = true;
}

bool TlsSession::flooded() const noexcept {
  return io_->unwanted || io_->key_updates > kFreeKeyUpdates + decrypted_ / kBytesPerKeyUpdate;
}

void TlsSession::fail(const char* doing, int result) const {
  const int kind = SSL_get_error(ssl_.get(), result);
  std::string text = std::string("TLS ") + doing + ": " + openssl_reasons();
  if (const long verify = SSL_get_verify_result(ssl_.get()); verify != X509_V_OK)
    text += " (" + std::string(X509_verify_cert_error_string(verify)) + ")";
  if (kind == SSL_ERROR_SYSCALL) text += " (memory)";
  tls_error(text);
}

bool TlsSession::handshake() {
  ERR_clear_error();
  const int result = SSL_do_handshake(ssl_.get());
  if (result == 1) {
    if (SSL_version(ssl_.get()) != TLS1_3_VERSION ||
        SSL_get_verify_result(ssl_.get()) != X509_V_OK ||
        SSL_get0_peer_certificate(ssl_.get()) == nullptr)
      tls_error("TLS handshake without a verified TLS 1.3 peer");
    io_->established = true;
    return true;
  }
  if (SSL_get_error(ssl_.get(), result) == SSL_ERROR_WANT_READ) return false;
  fail("handshake", result);
}

bool TlsSession::peer_is_named(const std::string& name) const {
  const auto names = dns_names(ssl_.get());
  return std::find(names.begin(), names.end(), name) != names.end();
}

std::string TlsSession::peer_names() const {
  std::string text;
  for (const std::string& n : dns_names(ssl_.get())) {
    if (!text.empty()) text += ", ";
    for (char c : n.substr(0, 64)) text += (c > 0x20 && c < 0x7f) ? c : '?';
  }
  return text.empty() ? "no DNS name" : text;
}

std::size_t TlsSession::read(std::span<std::byte> out, bool& ended) {
  ERR_clear_error();
  std::size_t n = 0;
  const int result = SSL_read_ex(ssl_.get(), out.data(), out.size(), &n);
  if (result == 1) decrypted_ += n;
  if (flooded()) {
    ERR_clear_error();
    tls_error(io_->unwanted ? "the peer sends TLS handshake messages after the handshake"
                            : "the peer asks for new TLS keys too often");
  }
  if (result == 1) return n;
  switch (SSL_get_error(ssl_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      return 0;
    case SSL_ERROR_ZERO_RETURN:
      ended = true;
      return 0;
    default:
      fail("record", result);
  }
}

void TlsSession::write(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  ERR_clear_error();
  since_rekey_ += bytes.size();
  if (since_rekey_ > rekey_bytes) {
    since_rekey_ = 0;
    if (const int r = SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_NOT_REQUESTED); r != 1)
      fail("key update", r);
  }
  std::size_t n = 0;
  const int result = SSL_write_ex(ssl_.get(), bytes.data(), bytes.size(), &n);
  if (result != 1 || n != bytes.size()) fail("write", result);
}

void TlsSession::write_close_notify() {
  ERR_clear_error();
  SSL_shutdown(ssl_.get());
  ERR_clear_error();
}

void TlsSession::export_key(const std::string& label, std::span<const std::byte> context,
                            std::span<std::byte> out) {
  ERR_clear_error();
  if (SSL_export_keying_material(ssl_.get(), reinterpret_cast<unsigned char*>(out.data()),
                                 out.size(), label.data(), label.size(),
                                 reinterpret_cast<const unsigned char*>(context.data()),
                                 context.size(), 1) != 1)
    tls_error("keying material export: " + openssl_reasons());
}

std::string TlsSession::describe() const {
  return std::string(SSL_get_version(ssl_.get())) + " " + SSL_get_cipher_name(ssl_.get());
}

std::span<std::byte> TlsSession::input_room() {
  Buffer& in = io_->in;
  if (in.begin != 0 && in.bytes.size() - in.end < (std::size_t{32} << 10)) {
    std::memmove(in.bytes.data(), in.bytes.data() + in.begin, in.end - in.begin);
    in.end -= in.begin;
    in.begin = 0;
  }
  return std::span(in.bytes).subspan(in.end);
}

void TlsSession::input_added(std::size_t n) { io_->in.end += n; }

std::span<const std::byte> TlsSession::output() const noexcept {
  return std::span<const std::byte>(io_->out.bytes)
      .subspan(io_->out.begin, io_->out.end - io_->out.begin);
}

void TlsSession::output_sent(std::size_t n) noexcept {
  Buffer& out = io_->out;
  out.begin += n;
  if (out.begin == out.end) out.begin = out.end = 0;
}

}  // namespace mpcc::net
