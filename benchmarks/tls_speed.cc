// tls_speed FOLDER BYTES PASSES: how fast three processes exchange bytes through TLS 1.3 on the
// loopback interface, each sending to the two others at once, with OpenSSL and nothing else.
// FOLDER holds P0.pem, P0.key and so on, and authority.pem. Prints one line per pass: seconds from
// a common start until everybody has sent and received BYTES over each of the six links, and the
// processor seconds that all three took for it.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

namespace {

constexpr int kParties = 3;
constexpr std::size_t kChunk = 256 << 10;

[[noreturn]] void fail(const char* what) {
  std::perror(what);
  ERR_print_errors_fp(stderr);
  std::_Exit(1);
}

// What the processes share.
struct Shared {
  pthread_barrier_t barrier;
  double cpu[kParties];
};

double cpu_seconds() {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  const auto seconds = [](const timeval& t) { return t.tv_sec + 1e-6 * t.tv_usec; };
  return seconds(used.ru_utime) + seconds(used.ru_stime);
}

// Both ends of a TCP connection over the loopback interface.
struct Link {
  int from = -1, to = -1;
};

Link connected() {
  const int listener = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  Link link;
  auto* const any = reinterpret_cast<sockaddr*>(&address);
  if (listener < 0 || bind(listener, any, size) != 0 || listen(listener, 1) != 0 ||
      getsockname(listener, any, &size) != 0)
    fail("listen");
  link.from = socket(AF_INET, SOCK_STREAM, 0);
  if (link.from < 0 || connect(link.from, any, size) != 0) fail("connect");
  link.to = accept(listener, nullptr, nullptr);
  if (link.to < 0) fail("accept");
  const int on = 1;
  for (const int end : {link.from, link.to})
    setsockopt(end, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  close(listener);
  return link;
}

SSL_CTX* context(const std::string& folder, int party, bool server) {
  SSL_CTX* ctx = SSL_CTX_new(server ? TLS_server_method() : TLS_client_method());
  const std::string name = folder + "/P" + std::to_string(party);
  if (ctx == nullptr || SSL_CTX_set_min_proto_version(ctx, TLS1_3_VERSION) != 1 ||
      SSL_CTX_use_certificate_file(ctx, (name + ".pem").c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_use_PrivateKey_file(ctx, (name + ".key").c_str(), SSL_FILETYPE_PEM) != 1 ||
      SSL_CTX_load_verify_locations(ctx, (folder + "/authority.pem").c_str(), nullptr) != 1)
    fail("certificates");
  SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return ctx;
}

SSL* handshake(SSL_CTX* ctx, int end, bool server) {
  SSL* ssl = SSL_new(ctx);
  if (ssl == nullptr || SSL_set_fd(ssl, end) != 1) fail("SSL_new");
  if ((server ? SSL_accept(ssl) : SSL_connect(ssl)) != 1) fail("handshake");
  return ssl;
}

// A process: two links out, two in, a thread for each.
void party(int me, const std::string& folder, std::size_t bytes, int passes,
           const Link (&links)[kParties][kParties], Shared* shared) {
  SSL_CTX *client = context(folder, me, false), *server = context(folder, me, true);
  std::vector<SSL*> out, in;
  std::vector<std::thread> threads;
  // Everybody calls in the same order of links, so nobody waits for somebody who waits for him.
  for (int from = 0; from < kParties; ++from)
    for (int to = 0; to < kParties; ++to) {
      if (from == to) continue;
      if (from == me) out.push_back(handshake(client, links[from][to].from, false));
      if (to == me) in.push_back(handshake(server, links[from][to].to, true));
    }
  for (int pass = 0; pass < passes; ++pass) {
    pthread_barrier_wait(&shared->barrier);
    const double cpu = cpu_seconds();
    const auto start = std::chrono::steady_clock::now();
    for (SSL* ssl : out)
      threads.emplace_back([=] {
        const std::vector<char> data(kChunk, static_cast<char>(me));
        for (std::size_t sent = 0; sent < bytes; sent += kChunk)
          if (SSL_write(ssl, data.data(), kChunk) != static_cast<int>(kChunk)) fail("SSL_write");
      });
    for (SSL* ssl : in)
      threads.emplace_back([=] {
        std::vector<char> data(kChunk);
        for (std::size_t got = 0; got < bytes;) {
          const int count = SSL_read(ssl, data.data(), kChunk);
          if (count <= 0) fail("SSL_read");
          got += static_cast<std::size_t>(count);
        }
      });
    for (std::thread& thread : threads) thread.join();
    threads.clear();
    shared->cpu[me] = cpu_seconds() - cpu;
    pthread_barrier_wait(&shared->barrier);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    if (me == 0)
      std::printf("%.6f %.6f\n", seconds.count(), shared->cpu[0] + shared->cpu[1] + shared->cpu[2]);
  }
  std::fflush(stdout);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: tls_speed FOLDER BYTES PASSES\n");
    return 2;
  }
  const std::string folder = argv[1];
  const std::size_t bytes = (std::strtoull(argv[2], nullptr, 10) + kChunk - 1) / kChunk * kChunk;
  const int passes = std::atoi(argv[3]);
  Link links[kParties][kParties];
  for (int from = 0; from < kParties; ++from)
    for (int to = 0; to < kParties; ++to)
      if (from != to) links[from][to] = connected();
  void* const memory =
      mmap(nullptr, sizeof(Shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) fail("mmap");
  auto* const shared = static_cast<Shared*>(memory);
  pthread_barrierattr_t attributes;
  pthread_barrierattr_init(&attributes);
  pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
  pthread_barrier_init(&shared->barrier, &attributes, kParties);
  std::vector<pid_t> children;
  for (int me = 0; me < kParties; ++me) {
    const pid_t child = fork();
    if (child < 0) fail("fork");
    if (child == 0) {
      party(me, folder, bytes, passes, links, shared);
      std::_Exit(0);
    }
    children.push_back(child);
  }
  int exit_code = 0;
  for (std::size_t ended = 0; ended < children.size(); ++ended) {
    int status = 0;
    wait(&status);
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) continue;
    exit_code = 1;
    // The others wait for it.
    for (const pid_t child : children) kill(child, SIGKILL);
  }
  return exit_code;
}
