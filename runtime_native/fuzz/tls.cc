// Certificates and keys as PEM texts, and TLS records of a peer during the handshake. The first
// byte says which: the authority, the certificate, the key, or bytes that arrive at a server or a
// client.
#include <algorithm>
#include <string>

#include "fuzz/common.h"
#include "net/tests/certificates.h"
#include "net/tls_session.h"

namespace mpcc::fuzz {
namespace {

using net::Pem;
using net::TlsContext;
using net::TlsSession;

struct Identity {
  net::testing::TestAuthority authority;
  net::testing::PemPair own = authority.issue("P0");
  TlsContext context{Pem::text(authority.pem()), Pem::text(own.certificate), Pem::text(own.key)};
};

const Identity& identity() {
  static const Identity made;
  return made;
}

void records(net::TlsRole role, std::span<const std::byte> bytes) {
  TlsSession session(identity().context, role);
  while (!bytes.empty()) {
    const auto room = session.input_room();
    MPCC_FUZZ_CHECK(!room.empty());
    // In pieces, the first one of a length that the input chooses.
    const std::size_t n =
        std::min({room.size(), bytes.size(), 1 + std::to_integer<std::size_t>(bytes[0])});
    std::ranges::copy(bytes.first(n), room.begin());
    session.input_added(n);
    bytes = bytes.subspan(n);
    // Without our authority's key nobody gets through.
    MPCC_FUZZ_CHECK(!session.handshake());
    session.output_sent(session.output().size());
  }
}

}  // namespace
}  // namespace mpcc::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mpcc::fuzz;
  if (size == 0) return 0;
  const std::string text = as_text(data + 1, size - 1);
  const Identity& own = identity();
  accepts([&] {
    switch (data[0] % 5) {
      case 0:
        TlsContext(Pem::text(text), Pem::text(own.own.certificate), Pem::text(own.own.key));
        break;
      case 1:
        TlsContext(Pem::text(own.authority.pem()), Pem::text(text), Pem::text(own.own.key));
        break;
      case 2:
        TlsContext(Pem::text(own.authority.pem()), Pem::text(own.own.certificate), Pem::text(text));
        break;
      default:
        records(data[0] % 5 == 3 ? mpcc::net::TlsRole::server : mpcc::net::TlsRole::client,
                as_bytes(data + 1, size - 1));
    }
  });
  return 0;
}
