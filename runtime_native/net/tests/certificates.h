// Certificates for tests and benchmarks, made with OpenSSL in memory. Nothing here is for real use:
// keys leave through strings, and serial numbers count.
#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

#include <memory>
#include <stdexcept>
#include <string>

namespace mpcc::net::testing {

struct FreeSsl {
  void operator()(EVP_PKEY* p) const { EVP_PKEY_free(p); }
  void operator()(X509* p) const { X509_free(p); }
  void operator()(BIO* p) const { BIO_free(p); }
  void operator()(X509_EXTENSION* p) const { X509_EXTENSION_free(p); }
};
template <class T>
using Owned = std::unique_ptr<T, FreeSsl>;

struct PemPair {
  std::string certificate;
  std::string key;
};

// A certificate authority of its own.
class TestAuthority {
 public:
  explicit TestAuthority(const std::string& name = "mpcc test CA") : key_(EVP_EC_gen("P-256")) {
    certificate_ = make(name, "", key_.get(), nullptr, key_.get(), 3600, true);
  }

  std::string pem() const { return text(certificate_.get()); }

  // A certificate for subjectAltName DNS:`dns` (none when empty). The common name is always "P0",
  // so that a test notices when it counts for something.
  PemPair issue(const std::string& dns, long valid_seconds = 3600) const {
    const Owned<EVP_PKEY> key(EVP_EC_gen("P-256"));
    const auto cert =
        make("P0", dns, key.get(), certificate_.get(), key_.get(), valid_seconds, false);
    const Owned<BIO> bio(BIO_new(BIO_s_mem()));
    check(PEM_write_bio_PrivateKey(bio.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr));
    return {text(cert.get()), drain(bio.get())};
  }

 private:
  static void check(long ok) {
    if (ok <= 0) throw std::runtime_error("OpenSSL failed in a test helper");
  }

  static Owned<X509> make(const std::string& name, const std::string& dns, EVP_PKEY* key,
                          X509* issuer, EVP_PKEY* signer, long valid_seconds, bool authority) {
    static long serial = 1;
    Owned<X509> cert(X509_new());
    check(X509_set_version(cert.get(), 2));
    check(ASN1_INTEGER_set(X509_get_serialNumber(cert.get()), serial++));
    X509_gmtime_adj(X509_getm_notBefore(cert.get()), -7200);
    X509_gmtime_adj(X509_getm_notAfter(cert.get()), valid_seconds);
    check(X509_set_pubkey(cert.get(), key));
    X509_NAME* subject = X509_get_subject_name(cert.get());
    check(X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC,
                                     reinterpret_cast<const unsigned char*>(name.c_str()), -1, -1,
                                     0));
    check(X509_set_issuer_name(cert.get(), issuer ? X509_get_subject_name(issuer) : subject));
    extend(cert.get(), issuer, NID_basic_constraints, authority ? "critical,CA:TRUE" : "CA:FALSE");
    extend(cert.get(), issuer, NID_key_usage,
           authority ? "critical,keyCertSign" : "critical,digitalSignature");
    if (!dns.empty()) extend(cert.get(), issuer, NID_subject_alt_name, "DNS:" + dns);
    check(X509_sign(cert.get(), signer, EVP_sha256()));
    return cert;
  }

  static void extend(X509* cert, X509* issuer, int nid, const std::string& value) {
    X509V3_CTX context;
    X509V3_set_ctx(&context, issuer ? issuer : cert, cert, nullptr, nullptr, 0);
    const Owned<X509_EXTENSION> e(X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str()));
    check(e ? 1 : 0);
    check(X509_add_ext(cert, e.get(), -1));
  }

  static std::string text(X509* cert) {
    const Owned<BIO> bio(BIO_new(BIO_s_mem()));
    check(PEM_write_bio_X509(bio.get(), cert));
    return drain(bio.get());
  }

  static std::string drain(BIO* bio) {
    char* data = nullptr;
    const long n = BIO_get_mem_data(bio, &data);
    return std::string(data, static_cast<std::size_t>(n));
  }

  Owned<EVP_PKEY> key_;
  Owned<X509> certificate_;
};

}  // namespace mpcc::net::testing
