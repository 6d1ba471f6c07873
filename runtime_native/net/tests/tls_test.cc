// What only the TLS transport does: who may connect, and what happens below the frames.
#include <arpa/inet.h>
#include <doctest/doctest.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <thread>

#include "net/keys.h"
#include "net/tests/network.h"
#include "net/tls_link.h"

namespace mpcc::net {
namespace {

using namespace testing;

std::vector<TlsConfig> configs(std::size_t n, Duration patience = 700ms * kSlowness) {
  auto list = tls_configs(n, test_options());
  for (auto& c : list) c.connect_deadline = patience;
  return list;
}

// What each side gets when all connect at once.
std::vector<Error> connect_errors(const std::vector<TlsConfig>& list) {
  std::vector<std::future<Error>> futures;
  for (const TlsConfig& c : list)
    futures.push_back(
        std::async(std::launch::async, [&c] { return error_of([&] { connect_tls(c); }); }));
  std::vector<Error> errors;
  for (auto& f : futures) errors.push_back(f.get());
  return errors;
}

void identify(TlsConfig& config, const PemPair& pair) {
  config.certificate = Pem::text(pair.certificate);
  config.private_key = Pem::text(pair.key);
}

TEST_CASE("tls: files work like texts, endpoints may start late") {
  auto list = configs(2, 2s);
  const TestAuthority authority;
  char directory[] = "/tmp/mpcc-net-test-XXXXXX";
  REQUIRE(mkdtemp(directory) != nullptr);
  const auto file = [&](const std::string& name, const std::string& text) {
    const std::string path = std::string(directory) + "/" + name;
    std::ofstream(path) << text;
    return Pem::file(path);
  };
  for (TlsConfig& c : list) {
    const std::string& name = c.endpoints[c.self].name;
    const PemPair own = authority.issue(name);
    c.ca = file("ca", authority.pem());
    c.certificate = file(name + ".crt", own.certificate);
    c.private_key = file(name + ".key", own.key);
    // Whoever is in the group, or anybody, could take a key that is open to them.
    const std::string key = std::string(directory) + "/" + name + ".key";
    for (const mode_t mode : {0640, 0604, 0620, 0644}) {
      REQUIRE(::chmod(key.c_str(), mode) == 0);
      const Error e =
          error_of([&] { const TlsContext context(c.ca, c.certificate, c.private_key); });
      CHECK(e.code() == "E-net-key-mode");
      CHECK(contains(e.message(), "run: chmod 600 " + key));
    }
    REQUIRE(::chmod(key.c_str(), 0600) == 0);
  }
  CHECK(contains(error_of([&] { (void)read_private_key(directory); }).message(), "not a regular"));
  // The one that listens comes later: its port is closed until then.
  const std::uint16_t port = list[0].listener->port();
  list[0].listener.reset();
  list[1].listener.reset();
  for (TlsConfig& c : list) c.endpoints[0].port = port;
  auto late = std::async(std::launch::async, [&] {
    std::this_thread::sleep_for(100ms);
    return connect_tls(list[0]);
  });
  Network net;
  auto early = connect_tls(list[1]);
  net.push_back(late.get());
  net.push_back(std::move(early));
  close_all(net);
  CHECK(std::system((std::string("rm -r ") + directory).c_str()) == 0);
}

TEST_CASE("tls: files that are missing or wrong are named") {
  auto list = configs(2);
  list[0].ca = Pem::file("/nonexistent/ca.pem");
  CHECK(contains(error_of([&] { connect_tls(list[0]); }).message(), "/nonexistent/ca.pem"));
  list = configs(2);
  list[0].ca = Pem::text("no certificate");
  CHECK(error_of([&] { connect_tls(list[0]); }).code() == "E-net-tls");
  list = configs(2);
  list[0].private_key = list[1].private_key;
  const Error e = error_of([&] { connect_tls(list[0]); });
  CHECK(e.code() == "E-net-tls");
  CHECK(contains(e.message(), "belong to the certificate"));
}

TEST_CASE("tls: a certificate of another CA is refused") {
  auto list = configs(2);
  const TestAuthority stranger;
  SUBCASE("of the side that connects") { identify(list[1], stranger.issue("P1")); }
  SUBCASE("of the side that listens") { identify(list[0], stranger.issue("P0")); }
  const auto errors = connect_errors(list);
  INFO(std::string(errors[0].what()));
  INFO(std::string(errors[1].what()));
  CHECK(errors[0].code() == "E-net-connect");
  CHECK(contains(errors[0].message(), "P1"));
  CHECK(contains(errors[0].message(), "refused"));
  CHECK(errors[1].code() == "E-net-tls");
  CHECK(contains(errors[1].where(), "P1 -> P0"));
}

TEST_CASE("tls: an expired certificate is refused") {
  const TestAuthority authority;
  auto list = configs(2);
  for (TlsConfig& c : list) {
    c.ca = Pem::text(authority.pem());
    identify(c, authority.issue(c.endpoints[c.self].name, c.self == 0 ? -60 : 3600));
  }
  const auto errors = connect_errors(list);
  CHECK(errors[1].code() == "E-net-tls");
  CHECK(contains(errors[1].message(), "certificate has expired"));
  CHECK(errors[0].code() == "E-net-connect");
}

TEST_CASE("tls: the name in the certificate decides, not the common name, not a wildcard") {
  const TestAuthority authority;
  auto list = configs(2);
  for (TlsConfig& c : list) {
    c.ca = Pem::text(authority.pem());
    identify(c, authority.issue(c.endpoints[c.self].name));
  }
  SUBCASE("wrong name where P0 listens") {
    for (const std::string& name : {std::string("P1"), std::string(""), std::string("*")}) {
      identify(list[0], authority.issue(name));  // its common name is P0
      const auto errors = connect_errors(list);
      CHECK(errors[1].code() == "E-net-tls");
      CHECK(contains(errors[1].message(), "not for P0"));
    }
  }
  SUBCASE("wrong name where P1 connects") {
    for (const std::string& name : {std::string("P0"), std::string(""), std::string("p1")}) {
      identify(list[1], authority.issue(name));
      const auto errors = connect_errors(list);
      INFO(std::string(errors[0].what()));
      INFO(std::string(errors[1].what()));
      CHECK(errors[0].code() == "E-net-connect");
      CHECK(contains(errors[0].message(), "not for P1"));
      CHECK(errors[1].code() == "E-net-aborted");
      CHECK(contains(errors[1].message(), "P0 refused this endpoint"));
    }
  }
}

TEST_CASE("tls: a stranger does not keep the right peers from connecting") {
  auto list = configs(3, 2s);
  auto intruder = list[1];
  const TestAuthority other;
  intruder.listener = std::make_shared<Listener>("127.0.0.1", std::uint16_t{0});
  intruder.ca = Pem::text(other.pem());
  identify(intruder, other.issue("P1"));
  auto attack =
      std::async(std::launch::async, [&] { return error_of([&] { connect_tls(intruder); }); });
  // A connection that says nothing.
  const int silent = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(list[0].endpoints[0].port);
  REQUIRE(::connect(silent, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
  Network net = connect_all(list);
  ::close(silent);
  close_all(net);
  CHECK(attack.get().code() == "E-net-tls");
}

// Connections to the first endpoint that say `text` and then nothing.
class Crowd {
 public:
  Crowd(std::uint16_t port, std::size_t count, const std::string& text) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    for (std::size_t i = 0; i < count; ++i) {
      UniqueFd fd(::socket(AF_INET, SOCK_STREAM, 0));
      REQUIRE(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) == 0);
      REQUIRE(::send(fd.get(), text.data(), text.size(), MSG_NOSIGNAL) ==
              static_cast<ssize_t>(text.size()));
      sockets_.push_back(std::move(fd));
    }
  }

 private:
  std::vector<UniqueFd> sockets_;
};

TEST_CASE("tls: a crowd of strangers does not keep the right peers from connecting") {
  auto list = configs(3, 6s);
  std::size_t count = 100;
  std::string text;
  SUBCASE("that say nothing") {}
  SUBCASE("that begin a handshake and stop") {
    count = 40;
    text = "\x16\x03\x01";
  }
  auto first = std::async(std::launch::async, [&] { return connect_tls(list[0]); });
  const Crowd crowd(list[0].endpoints[0].port, count, text);
  const auto start = std::chrono::steady_clock::now();
  Network rest = connect_all({list[1], list[2]});
  Network net;
  net.push_back(first.get());
  for (auto& t : rest) net.push_back(std::move(t));
  CHECK(std::chrono::steady_clock::now() - start < 5s);
  close_all(net);
}

TEST_CASE("tls: another program is refused on both sides") {
  auto list = configs(2);
  list[1].program[0] = std::byte{0xab};
  const auto errors = connect_errors(list);
  for (const Error& e : errors) {
    CHECK(e.code() == "E-net-mismatch");
    CHECK(contains(e.message(), "runs another program"));
    CHECK(contains(e.message(), "ab0000000000..."));
  }
  CHECK(contains(errors[0].message(), "P1"));
  CHECK(contains(errors[1].message(), "P0"));
}

TEST_CASE("tls: another list of places is refused on both sides") {
  auto list = configs(2);
  list[0].endpoints[1].places = {"client", "model"};
  for (const Error& e : connect_errors(list)) {
    CHECK(e.code() == "E-net-mismatch");
    CHECK(contains(e.message(), "another list of endpoints"));
  }
}

TEST_CASE("tls: a peer that does not come is named") {
  auto list = configs(3, 200ms);
  const Error e = error_of([&] { connect_tls(list[1]); });
  CHECK(e.code() == "E-net-connect");
  CHECK(contains(e.message(), "no connection with P0 P2 within 200 ms"));
}

// A TLS client made by hand, to do what ours cannot.
struct RawClient {
  explicit RawClient(std::uint16_t port) : fd(::socket(AF_INET, SOCK_STREAM, 0)) {
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(port);
    REQUIRE(::connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a) == 0);
    context = SSL_CTX_new(TLS_client_method());
  }
  ~RawClient() {
    SSL_free(ssl);
    SSL_CTX_free(context);
    ::close(fd);
  }
  // Whether the handshake and one read behind it succeed.
  bool works() {
    ssl = SSL_new(context);
    SSL_set_fd(ssl, fd);
    char c = 0;
    return SSL_connect(ssl) == 1 && SSL_read(ssl, &c, 1) == 1;
  }
  int fd;
  SSL_CTX* context;
  SSL* ssl = nullptr;
};

TEST_CASE("tls: clients without TLS 1.3 or without a certificate are refused") {
  const TestAuthority authority;
  auto list = configs(2, 1s);
  list[0].ca = Pem::text(authority.pem());
  identify(list[0], authority.issue("P0"));
  auto server =
      std::async(std::launch::async, [&] { return error_of([&] { connect_tls(list[0]); }); });
  RawClient client(list[0].endpoints[0].port);
  std::string reason;
  SUBCASE("TLS 1.2") {
    SSL_CTX_set_max_proto_version(client.context, TLS1_2_VERSION);
    const PemPair own = authority.issue("P1");
    const Owned<BIO> c(BIO_new_mem_buf(own.certificate.data(), -1));
    const Owned<BIO> k(BIO_new_mem_buf(own.key.data(), -1));
    const Owned<X509> cert(PEM_read_bio_X509(c.get(), nullptr, nullptr, nullptr));
    const Owned<EVP_PKEY> key(PEM_read_bio_PrivateKey(k.get(), nullptr, nullptr, nullptr));
    REQUIRE(SSL_CTX_use_certificate(client.context, cert.get()) == 1);
    REQUIRE(SSL_CTX_use_PrivateKey(client.context, key.get()) == 1);
    reason = "unsupported protocol";
  }
  SUBCASE("no certificate") { reason = "peer did not return a certificate"; }
  CHECK(!client.works());
  const Error e = server.get();
  INFO(std::string(e.what()));
  CHECK(e.code() == "E-net-connect");
  CHECK(contains(e.message(), reason));
}

// Passes bytes between a peer and its server, changing one byte of the ciphertext on the way.
class TamperingProxy {
 public:
  TamperingProxy(std::uint16_t to, std::size_t skip_bytes) : to_(to), skip_(skip_bytes) {
    thread_ = std::thread([this] { run(); });
  }
  ~TamperingProxy() {
    stop_ = true;
    thread_.join();
  }
  std::uint16_t port() const { return listener_.port(); }
  void arm() { armed_ = true; }

 private:
  void run() {
    pollfd waiting{listener_.fd(), POLLIN, 0};
    while (!stop_ && ::poll(&waiting, 1, 10) <= 0) continue;
    if (stop_) return;
    const UniqueFd client(::accept(listener_.fd(), nullptr, nullptr));
    const UniqueFd server(::socket(AF_INET, SOCK_STREAM, 0));
    sockaddr_in a{};
    a.sin_family = AF_INET;
    a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    a.sin_port = htons(to_);
    if (::connect(server.get(), reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) return;
    std::array<char, 65536> buffer;
    while (!stop_) {
      std::array<pollfd, 2> p = {{{client.get(), POLLIN, 0}, {server.get(), POLLIN, 0}}};
      if (::poll(p.data(), 2, 10) <= 0) continue;
      for (std::size_t i = 0; i < 2; ++i) {
        if (!p[i].revents) continue;
        const ssize_t n = ::recv(p[i].fd, buffer.data(), buffer.size(), 0);
        if (n <= 0) return;
        if (i == 0 && armed_) {
          if (static_cast<std::size_t>(n) > skip_) {
            buffer[skip_] = static_cast<char>(buffer[skip_] ^ 1);
            armed_ = false;
          } else {
            skip_ -= static_cast<std::size_t>(n);
          }
        }
        if (::send(p[1 - i].fd, buffer.data(), static_cast<std::size_t>(n), MSG_NOSIGNAL) != n)
          return;
      }
    }
  }

  Listener listener_{"127.0.0.1", 0};
  std::uint16_t to_;
  std::size_t skip_;
  std::atomic<bool> stop_{false};
  std::atomic<bool> armed_{false};
  std::thread thread_;
};

TEST_CASE("tls: a byte changed on the wire ends the session on both sides") {
  auto list = configs(2, 2s);
  TamperingProxy proxy(list[0].endpoints[0].port, 500);
  list[1].endpoints[0].port = proxy.port();
  Network net = connect_all(list);
  const Expected e{1, 3, 5000, 0};
  const Expected never{0, 4, 1, 0};
  net[0]->expect(1, std::span(&e, 1));
  net[1]->expect(1, std::span(&never, 1));
  for (auto& t : net) t->wait_ready(1);
  proxy.arm();
  net[1]->send(0, {1, 3, 0, false}, test_payload(5000, 1));
  const Error at0 = error_of([&] { net[0]->receive(1, 1, 3, 5000); });
  INFO(std::string(at0.what()));
  CHECK(at0.code() == "E-net-lost");
  CHECK(contains(at0.message(), "P1"));
  CHECK(contains(at0.message(), "bad record mac"));
  CHECK(contains(at0.where(), "%step3"));
  const Error at1 = error_of([&] { net[1]->receive(0, 1, 4, 1); });
  INFO(std::string(at1.what()));
  CHECK(contains(at1.what(), "P0"));
}

TEST_CASE("tls: the keys of a connection are changed after many bytes, unnoticed above") {
  const TestAuthority authority;
  const auto context = [&](const std::string& name) {
    const PemPair own = authority.issue(name);
    return TlsContext(Pem::text(authority.pem()), Pem::text(own.certificate), Pem::text(own.key));
  };
  const TlsContext a = context("P0");
  const TlsContext b = context("P1");
  TlsSession server(a, TlsRole::server);
  TlsSession client(b, TlsRole::client);
  const auto carry = [](TlsSession& from, TlsSession& to) {
    while (!from.output().empty()) {
      const auto out = from.output();
      const auto room = to.input_room();
      const std::size_t n = std::min(out.size(), room.size());
      std::copy_n(out.begin(), n, room.begin());
      to.input_added(n);
      from.output_sent(n);
    }
  };
  bool done = false;
  for (int i = 0; i < 10 && !done; ++i) {
    const bool c = client.handshake();
    carry(client, server);
    const bool s = server.handshake();
    carry(server, client);
    done = c && s;
  }
  REQUIRE(done);
  CHECK(server.peer_is_named("P1"));
  CHECK(!server.peer_is_named("P0"));
  CHECK(contains(server.describe(), "TLSv1.3"));
  SecretBuffer before(32), after(32);
  client.export_key("EXPORTER-mpcc-prg", {}, before.bytes());
  client.rekey_bytes = 10000;
  const SecretBuffer data = test_payload(4000, 1);
  SecretBuffer got(4000);
  for (int i = 0; i < 20; ++i) {
    client.write(data.bytes());
    carry(client, server);
    bool ended = false;
    std::size_t n = 0;
    while (n < got.size()) {
      const std::size_t m = server.read(got.bytes().subspan(n), ended);
      REQUIRE(m > 0);
      n += m;
    }
    CHECK(same(got.bytes(), data.bytes()));
  }
  server.export_key("EXPORTER-mpcc-prg", {}, after.bytes());
  CHECK(same(before.bytes(), after.bytes()));
}

TEST_CASE("tls: a killed process is named by the others") {
  auto list = configs(3, 2s);
  // The child is made before there are any threads in this test.
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    try {
      auto t = connect_tls(list[1]);
      t->expect(1, {});
      t->wait_ready(1);
      t->send(0, {1, 0, 1, false}, SecretBuffer(8));
      for (;;) ::pause();
    } catch (...) {
      ::_exit(1);
    }
  }
  list[1].listener.reset();
  auto second = std::async(std::launch::async, [&] { return connect_tls(list[2]); });
  Network net;
  net.push_back(connect_tls(list[0]));
  net.push_back(second.get());
  const std::vector<Expected> table = {{1, 0, 8, 1}, {1, 1, 8, 2}};
  net[0]->expect(1, table);
  const Expected waiting{0, 0, 8, 3};
  net[1]->expect(1, std::span(&waiting, 1));
  auto other = std::async(std::launch::async,
                          [&] { return error_of([&] { net[1]->receive(0, 1, 0, 8); }); });
  net[0]->receive(1, 1, 0, 8);
  ::kill(child, SIGKILL);
  ::waitpid(child, nullptr, 0);
  const auto start = std::chrono::steady_clock::now();
  const Error e = error_of([&] { net[0]->receive(1, 1, 1, 8); });
  const Error o = other.get();
  CHECK(std::chrono::steady_clock::now() - start < 1s);
  INFO(std::string(e.what()));
  INFO(std::string(o.what()));
  // P2 may have noticed first and told P0.
  CHECK(contains(e.message(), "connection to P1 ended"));
  CHECK(contains(e.where(), "waiting for message 1 (%step1) from P1"));
  CHECK(contains(o.message(), "connection to P1 ended"));
}

}  // namespace
}  // namespace mpcc::net
