// The transport between machines: one TLS 1.3 connection per pair of endpoints.
//
// Of two endpoints the one with the lower index listens and the other connects, again and again
// until the deadline, so the processes may start in any order. Both show certificates under the
// same CA; an endpoint is who its certificate's subjectAltName DNS name says, which must equal the
// configured name exactly. There is no option to leave the verification out, and no way to fix
// keys.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "net/tls_session.h"
#include "net/transport.h"

namespace mpcc::net {

// A listening TCP socket, for a caller that wants the system to choose the port.
class Listener {
 public:
  // Port 0: any free one. Throws Error("E-net-connect").
  Listener(const std::string& host, std::uint16_t port);
  // Takes over a socket that listens already.
  static Listener adopt(int fd);
  ~Listener();
  Listener(Listener&& other) noexcept;
  Listener& operator=(Listener&&) = delete;

  std::uint16_t port() const;
  int fd() const noexcept { return fd_; }

 private:
  explicit Listener(int fd) : fd_(fd) {}
  int fd_ = -1;
};

struct TlsEndpoint {
  std::string name;  // also the DNS name in its certificate
  std::vector<std::string> places;
  std::string host;  // where the others reach it; the highest index is never called
  std::uint16_t port = 0;
};

struct TlsConfig {
  PeerIndex self = 0;
  std::vector<TlsEndpoint> endpoints;  // the same list everywhere
  Pem ca;
  Pem certificate;
  Pem private_key;
  ProgramHash program{};  // must be equal everywhere
  TransportOptions options;
  Duration connect_deadline = std::chrono::seconds(10);
  // Listens on host:port of `self` when absent.
  std::shared_ptr<Listener> listener;
};

// Connects to all peers. Throws E-net-connect (a peer was not there in time; names it, and says
// what strangers were refused), E-net-tls (certificates or versions), E-net-mismatch (another
// program, list of endpoints or protocol version), E-net-aborted (the peer refused this endpoint).
std::unique_ptr<Transport> connect_tls(const TlsConfig& config);

}  // namespace mpcc::net
