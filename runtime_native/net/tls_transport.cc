#include "net/tls_transport.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <list>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "base/checked.h"
#include "net/blame.h"
#include "net/endpoint.h"
#include "net/keys.h"
#include "net/tls_link.h"

namespace mpcc::net {
namespace {

// 2: alive frames.
constexpr std::uint32_t kProtocolVersion = 2;
constexpr std::size_t kMaxHandshakes = 16;  // threads for connections that say something
constexpr std::size_t kMaxSilent = 64;      // connections that have not said anything
constexpr auto kRetry = std::chrono::milliseconds(20);
constexpr auto kSlice = std::chrono::milliseconds(20);  // how often a waiting thread looks at stop
// For a connection's first bytes, and from there to knowing who it is; of the latter, how much is
// granted even when others wait.
constexpr auto kStrangerPatience = std::chrono::seconds(2);
constexpr auto kHandshakeGrace = std::chrono::milliseconds(500);

// The connection ended without a word; the connecting side tries again.
struct Hangup {};

struct FreeAddresses {
  void operator()(addrinfo* p) const { ::freeaddrinfo(p); }
};
using Addresses = std::unique_ptr<addrinfo, FreeAddresses>;

Addresses resolve(const std::string& host, std::uint16_t port, bool passive) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_NUMERICSERV | (passive ? AI_PASSIVE : 0);
  addrinfo* list = nullptr;
  const int r = ::getaddrinfo(host.empty() ? nullptr : host.c_str(), std::to_string(port).c_str(),
                              &hints, &list);
  if (r != 0) throw Error("E-net-connect", "cannot resolve '" + host + "': " + ::gai_strerror(r));
  return Addresses(list);
}

void prepare_socket(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  ::setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
  ::fcntl(fd, F_SETFL, ::fcntl(fd, F_GETFL) | O_NONBLOCK);
}

// A connection during handshake and hello, used by one thread that may wait.
class Connecting {
 public:
  Connecting(UniqueFd fd, const TlsContext& context, TlsRole role, Clock::time_point deadline,
             const std::atomic<bool>& stop, const std::atomic<bool>* dropped = nullptr)
      : channel_{std::move(fd), TlsSession(context, role)},
        deadline_(deadline),
        stop_(stop),
        dropped_(dropped) {}

  // On failure the alert that OpenSSL wants to send goes out first.
  void handshake() {
    guarded([&] {
      while (!channel_.session.handshake()) {
        flush();
        fill();
      }
      flush();
    });
  }

  void write(std::span<const std::byte> bytes) {
    channel_.session.write(bytes);
    flush();
  }

  void read_exactly(std::span<std::byte> out) {
    guarded([&] {
      bool ended = false;
      while (!out.empty()) {
        const std::size_t n = channel_.session.read(out, ended);
        if (ended) throw Hangup{};
        if (n == 0) fill();
        out = out.subspan(n);
      }
    });
  }

  // Ends the connection so that the other side can still read what was written before.
  void close_gently() {
    ::shutdown(channel_.socket.get(), SHUT_WR);
    const auto end = Clock::now() + std::chrono::milliseconds(100);
    std::array<char, 4096> scrap;
    while (Clock::now() < end) {
      pollfd p{channel_.socket.get(), POLLIN, 0};
      if (::poll(&p, 1, 10) > 0 &&
          ::recv(channel_.socket.get(), scrap.data(), scrap.size(), MSG_DONTWAIT) <= 0)
        break;
    }
    channel_.socket = UniqueFd();
  }

  TlsSession& session() { return channel_.session; }
  TlsChannel take() { return std::move(channel_); }

 private:
  template <class F>
  void guarded(F&& f) {
    try {
      f();
    } catch (const Error&) {
      if (is_dropped()) throw;
      try {
        flush();
        close_gently();
      } catch (...) {
        // The first error is the one to report.
      }
      throw;
    }
  }

  bool is_dropped() const { return dropped_ != nullptr && dropped_->load(); }

  void wait(short events) {
    for (;;) {
      if (stop_.load()) throw Error("E-net-connect", "connecting was given up");
      if (is_dropped()) throw Error("E-net-connect", "dropped for a newer connection");
      if (Clock::now() >= deadline_)
        throw Error("E-net-timeout", "no answer during the TLS handshake");
      pollfd p{channel_.socket.get(), events, 0};
      if (::poll(&p, 1, static_cast<int>(kSlice.count())) > 0) return;
    }
  }

  void flush() {
    while (!channel_.session.output().empty()) {
      const auto out = channel_.session.output();
      const ssize_t n =
          ::send(channel_.socket.get(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n >= 0) {
        channel_.session.output_sent(static_cast<std::size_t>(n));
        channel_.wire_bytes_sent += static_cast<std::uint64_t>(n);
      } else if (errno == EAGAIN) {
        wait(POLLOUT);
      } else if (errno != EINTR) {
        // The reason may lie in the socket, as the peer's last words.
        if (std::exchange(broken_, true)) throw Hangup{};
        return;
      }
    }
  }

  void fill() {
    for (;;) {
      wait(POLLIN);
      const auto room = channel_.session.input_room();
      const ssize_t n = ::recv(channel_.socket.get(), room.data(), room.size(), MSG_DONTWAIT);
      if (n > 0) {
        channel_.session.input_added(static_cast<std::size_t>(n));
        channel_.wire_bytes_received += static_cast<std::uint64_t>(n);
        return;
      }
      if (n == 0 || (errno != EAGAIN && errno != EINTR)) throw Hangup{};
    }
  }

  TlsChannel channel_;
  const Clock::time_point deadline_;
  const std::atomic<bool>& stop_;
  const std::atomic<bool>* const dropped_;
  bool broken_ = false;
};

// The payload of a hello frame; docs/wire-format.md.
struct Hello {
  std::uint32_t protocol = kProtocolVersion;
  std::uint32_t index = 0;
  std::uint32_t count = 0;
  std::uint32_t reserved = 0;
  std::array<std::byte, 32> random{};
  std::array<std::byte, 32> program{};
  std::array<std::byte, 32> endpoints{};
};
static_assert(sizeof(Hello) == 112 && std::is_trivially_copyable_v<Hello>);

std::string short_hex(std::span<const std::byte> bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string text;
  for (std::byte b : bytes.first(6)) {
    text += kDigits[std::to_integer<unsigned>(b) >> 4];
    text += kDigits[std::to_integer<unsigned>(b) & 15];
  }
  return text;
}

std::array<std::byte, 32> hash_of(const std::vector<TlsEndpoint>& endpoints) {
  std::string text;
  const auto add = [&text](const std::string& s) { text += std::to_string(s.size()) + ":" + s; };
  for (const TlsEndpoint& e : endpoints) {
    add(e.name);
    text += std::to_string(e.places.size()) + ";";
    for (const std::string& p : e.places) add(p);
  }
  return sha256(std::as_bytes(std::span(text)));
}

std::uint64_t session_id(const Hello& low, const Hello& high) {
  std::string text = "mpcc session v1";
  for (const Hello* h : {&low, &high})
    text.append(reinterpret_cast<const char*>(h->random.data()), h->random.size());
  const auto digest = sha256(std::as_bytes(std::span(text)));
  std::uint64_t id = 0;
  std::memcpy(&id, digest.data(), sizeof id);
  return id;
}

void send_frame(Connecting& c, FrameHeader header, std::span<const std::byte> payload) {
  Checksum sum;
  sum.update(payload);
  header.payload_bytes = payload.size();
  header.payload_checksum = sum.digest();
  const HeaderBytes head = encode_header(header);
  std::vector<std::byte> all(head.begin(), head.end());
  all.insert(all.end(), payload.begin(), payload.end());
  c.write(all);
}

void send_hello(Connecting& c, const Hello& hello) {
  FrameHeader h;
  h.kind = FrameKind::hello;
  send_frame(c, h, std::as_bytes(std::span(&hello, 1)));
}

void send_abort(Connecting& c, const std::string& text) {
  FrameHeader h;
  h.kind = FrameKind::abort;
  send_frame(c, h, std::as_bytes(std::span(text)));
}

Hello receive_hello(Connecting& c, const std::string& from) {
  HeaderBytes head;
  c.read_exactly(head);
  const FrameHeader h = decode_header(head);
  if (h.session != 0 || h.run != 0 || h.sequence != 0 || h.message != 0 || h.depth != 0)
    throw Error("E-net-frame", "first frame from " + from + " refused: fields are not zero");
  if (h.payload_bytes > kMaxControlBytes)
    throw Error("E-net-frame", "first frame from " + from + " refused: too long");
  std::vector<std::byte> payload(h.payload_bytes);
  c.read_exactly(payload);
  Checksum sum;
  sum.update(payload);
  if (sum.digest() != h.payload_checksum)
    throw Error("E-net-frame", "first frame from " + from + " refused: checksum does not match");
  if (h.kind == FrameKind::abort)
    throw Error("E-net-aborted", from + " refused this endpoint: " + printable(payload, 512));
  if (h.kind != FrameKind::hello || payload.size() != sizeof(Hello))
    throw Error("E-net-frame", "first frame from " + from + " refused: not a hello");
  Hello hello;
  std::memcpy(&hello, payload.data(), sizeof hello);
  return hello;
}

class Connector {
 public:
  explicit Connector(const TlsConfig& config)
      : config_(config),
        context_(config.ca, config.certificate, config.private_key),
        deadline_(Clock::now() +
                  std::chrono::duration_cast<Clock::duration>(config.connect_deadline)),
        links_(config.endpoints.size()) {
    own_.index = config.self;
    own_.count = static_cast<std::uint32_t>(config.endpoints.size());
    own_.program = config.program;
    own_.endpoints = hash_of(config.endpoints);
  }

  std::vector<LinkState> run() {
    const auto count = static_cast<PeerIndex>(config_.endpoints.size());
    std::shared_ptr<Listener> listener = config_.listener;
    const TlsEndpoint& self = config_.endpoints[config_.self];
    if (!listener && config_.self + 1 < count)
      listener = std::make_shared<Listener>(self.host, self.port);
    std::vector<std::jthread> threads;
    try {
      for (PeerIndex i = 0; i < config_.self; ++i)
        threads.emplace_back([this, i] { guard(i, [&] { call(i); }); });
      if (config_.self + 1 < count)
        threads.emplace_back(
            [&, this] { guard(config_.self, [&] { accept_all(listener->fd()); }); });
    } catch (const std::system_error& e) {
      stop_.store(true);  // for those that run, which are joined on the way out
      throw Error("E-net-connect", std::string("no thread to connect with: ") + e.what(),
                  name(config_.self));
    }
    {
      std::unique_lock lock(mutex_);
      changed_.wait_until(lock, deadline_, [&] { return failure_ || missing().empty(); });
      if (!failure_ && !missing().empty()) failure_ = late();
    }
    stop_.store(true);
    threads.clear();
    if (failure_) throw *failure_;
    return std::move(links_);
  }

 private:
  const std::string& name(PeerIndex i) const { return config_.endpoints[i].name; }

  std::vector<PeerIndex> missing() const {
    std::vector<PeerIndex> list;
    for (PeerIndex i = 0; i < links_.size(); ++i)
      if (i != config_.self && !links_[i].link) list.push_back(i);
    return list;
  }

  Error late() const {
    std::string text = "no connection with";
    for (PeerIndex i : missing()) text += " " + name(i);
    text += " within " +
            std::to_string(
                std::chrono::duration_cast<std::chrono::milliseconds>(config_.connect_deadline)
                    .count()) +
            " ms";
    for (const std::string& r : refusals_) text += "; refused: " + r;
    return Error("E-net-connect", text,
                 name(config_.self) + blame_text(name(missing().front()), "connecting"));
  }

  template <class F>
  void guard(PeerIndex peer, F&& f) {
    try {
      f();
    } catch (const Error& e) {
      fatal(blamed(e.within(name(config_.self) + (peer == config_.self ? "" : " -> " + name(peer))),
                   name(peer), "connecting"));
    } catch (const std::exception& e) {
      fatal(Error("E-net-connect", e.what(), name(config_.self)));
    }
  }

  void fatal(const Error& error) {
    const std::lock_guard lock(mutex_);
    // Errors that only come from giving up do not hide the reason for it.
    if (!failure_ && !stop_.load()) failure_ = error;
    changed_.notify_all();
  }

  void note_refusal(const std::string& text) {
    const std::lock_guard lock(mutex_);
    if (refusals_.size() < 8) refusals_.push_back(text);
  }

  bool over() const { return stop_.load() || Clock::now() >= deadline_; }

  Hello new_hello() const {
    Hello hello = own_;
    random_bytes(hello.random);
    return hello;
  }

  // Compares what both sides must agree on. Throws E-net-mismatch.
  void compare(const Hello& theirs, PeerIndex peer) const {
    const auto refuse = [&](const std::string& text) {
      throw Error("E-net-mismatch", text, name(config_.self) + " <-> " + name(peer));
    };
    if (theirs.protocol != own_.protocol)
      refuse(name(peer) + " speaks version " + std::to_string(theirs.protocol) +
             " of the transport, this side version " + std::to_string(own_.protocol));
    if (theirs.count != own_.count || theirs.endpoints != own_.endpoints)
      refuse(name(peer) + " has another list of endpoints and places");
    if (theirs.program != own_.program)
      refuse(name(peer) + " runs another program: " + short_hex(theirs.program) + "... there, " +
             short_hex(own_.program) + "... here");
  }

  void establish(Connecting& c, PeerIndex peer, const Hello& ours, const Hello& theirs) {
    const bool lower = config_.self < peer;
    LinkState state;
    state.session = lower ? session_id(ours, theirs) : session_id(theirs, ours);
    state.sent_frames = state.received_frames = 1;
    const std::lock_guard lock(mutex_);
    if (!io_) io_ = std::make_shared<IoThread>();
    state.link = make_tls_link(io_, c.take());
    links_[peer] = std::move(state);
    changed_.notify_all();
  }

  // --- the side that connects ---
  void call(PeerIndex peer) {
    const TlsEndpoint& to = config_.endpoints[peer];
    while (!over()) {
      if (UniqueFd fd = open_connection(to)) {
        try {
          talk_to(std::move(fd), peer);
          return;
        } catch (const Hangup&) {
          note_refusal("a connection to " + to.name + " that ended during the handshake");
        }
      }
      std::this_thread::sleep_for(kRetry);
    }
  }

  UniqueFd open_connection(const TlsEndpoint& to) {
    const Addresses list = resolve(to.host, to.port, false);
    for (const addrinfo* a = list.get(); a && !over(); a = a->ai_next) {
      UniqueFd fd(::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol));
      if (!fd) continue;
      prepare_socket(fd.get());
      if (::connect(fd.get(), a->ai_addr, a->ai_addrlen) == 0) return fd;
      if (errno != EINPROGRESS) continue;
      while (!over()) {
        pollfd p{fd.get(), POLLOUT, 0};
        if (::poll(&p, 1, static_cast<int>(kSlice.count())) <= 0) continue;
        int error = 0;
        socklen_t n = sizeof error;
        ::getsockopt(fd.get(), SOL_SOCKET, SO_ERROR, &error, &n);
        if (error == 0) return fd;
        break;
      }
    }
    return UniqueFd();
  }

  void talk_to(UniqueFd fd, PeerIndex peer) {
    Connecting c(std::move(fd), context_, TlsRole::client, deadline_, stop_);
    c.handshake();
    if (!c.session().peer_is_named(name(peer))) {
      const std::string names = c.session().peer_names();
      c.close_gently();
      throw Error("E-net-tls", "the certificate at " + config_.endpoints[peer].host + ":" +
                                   std::to_string(config_.endpoints[peer].port) + " is for " +
                                   names + ", not for " + name(peer));
    }
    const Hello ours = new_hello();
    send_hello(c, ours);
    const Hello theirs = receive_hello(c, name(peer));
    compare(theirs, peer);
    if (theirs.index != peer)
      throw Error("E-net-mismatch", name(peer) + " says that its index is " +
                                        std::to_string(theirs.index) + ", not " +
                                        std::to_string(peer));
    establish(c, peer, ours, theirs);
  }

  // --- the side that listens ---
  // A connection whose first bytes are there: a thread of its own does handshake and hello.
  struct Handshake {
    const Clock::time_point since = Clock::now();
    std::atomic<bool> known{false};    // has shown who it is: a peer that is expected
    std::atomic<bool> dropped{false};  // is to give up
    std::atomic<bool> done{false};
    std::jthread thread;  // last: it is joined before what it uses goes
  };
  // A connection that has not said anything yet: costs a descriptor and no thread.
  struct Silent {
    UniqueFd socket;
    Clock::time_point since;
  };

  void accept_all(int listener) {
    ::fcntl(listener, F_SETFL, ::fcntl(listener, F_GETFL) | O_NONBLOCK);
    std::list<Handshake> handshakes;
    std::deque<Silent> silent;  // by age
    std::vector<pollfd> polled;
    while (!over() && !all_accepted()) {
      handshakes.remove_if([](const Handshake& h) { return h.done.load(); });
      if (handshakes.size() >= kMaxHandshakes) drop_oldest(handshakes);
      const bool room = handshakes.size() < kMaxHandshakes;
      polled.assign(1, {listener, POLLIN, 0});
      if (room)
        for (const Silent& s : silent) polled.push_back({s.socket.get(), POLLIN, 0});
      if (::poll(polled.data(), polled.size(), static_cast<int>(kSlice.count())) < 0)
        std::this_thread::sleep_for(kSlice);
      // Backwards, so that what is erased does not move what is still to be looked at.
      for (std::size_t i = polled.size() - 1; i > 0; --i)
        if (polled[i].revents != 0 && handshakes.size() < kMaxHandshakes) {
          Silent speaking = std::move(silent[i - 1]);
          silent.erase(silent.begin() + static_cast<std::ptrdiff_t>(i - 1));
          start(handshakes, std::move(speaking));
        }
      while (!silent.empty() && silent.front().since + kStrangerPatience <= Clock::now())
        drop_front(silent, "that was silent or waited too long");
      if (polled[0].revents != 0) accept_one(listener, silent);
    }
    for (Handshake& h : handshakes)
      if (!h.known.load()) h.dropped.store(true);
  }

  void accept_one(int listener, std::deque<Silent>& silent) {
    UniqueFd fd(::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      if (errno != EMFILE && errno != ENFILE && errno != ENOBUFS && errno != ENOMEM) return;
      // The connection stays in the listener's queue: make room, and do not spin meanwhile.
      if (!silent.empty()) drop_front(silent, "dropped for want of descriptors");
      std::this_thread::sleep_for(kSlice);
      return;
    }
    prepare_socket(fd.get());
    if (silent.size() >= kMaxSilent) drop_front(silent, "dropped for a newer one");
    silent.push_back({std::move(fd), Clock::now()});
  }

  void drop_front(std::deque<Silent>& silent, const std::string& why) {
    note_refusal("a connection " + why);
    silent.pop_front();
  }

  // All threads are busy. Whoever has had time enough to show who he is makes room.
  static void drop_oldest(std::list<Handshake>& handshakes) {
    for (Handshake& h : handshakes) {  // by age
      if (h.known.load()) continue;
      if (!h.dropped.load() && Clock::now() - h.since >= kHandshakeGrace) h.dropped.store(true);
      return;  // the others are younger
    }
  }

  void start(std::list<Handshake>& handshakes, Silent connection) {
    char first = 0;
    const ssize_t n =
        ::recv(connection.socket.get(), &first, 1, MSG_PEEK | MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR)) {
      note_refusal("a connection that ended during the handshake");
      return;
    }
    Handshake& h = handshakes.emplace_back();
    try {
      h.thread = std::jthread([this, &h, socket = std::move(connection.socket)]() mutable {
        guard(config_.self, [&] { answer(std::move(socket), h); });
        h.done.store(true);
      });
    } catch (const std::system_error& e) {
      handshakes.pop_back();
      note_refusal(std::string("a connection (no thread for it: ") + e.what() + ")");
    }
  }

  bool all_accepted() {
    const std::lock_guard lock(mutex_);
    const auto list = missing();
    return failure_ ||
           std::none_of(list.begin(), list.end(), [&](PeerIndex i) { return i > config_.self; });
  }

  // Whoever cannot show who he is does not end the session for the others: he is refused, and named
  // in the error if the real peer does not come.
  void answer(UniqueFd fd, Handshake& handshake) {
    Hello theirs;
    const auto patience =
        std::min(deadline_,
                 handshake.since + std::chrono::duration_cast<Clock::duration>(kStrangerPatience));
    Connecting c(std::move(fd), context_, TlsRole::server, patience, stop_, &handshake.dropped);
    try {
      c.handshake();
      theirs = receive_hello(c, "a connecting endpoint");
    } catch (const Hangup&) {
      note_refusal("a connection that ended during the handshake");
      return;
    } catch (const Error& e) {
      note_refusal("a connection (" + e.message() + ")");
      return;
    }
    const PeerIndex peer = theirs.index;
    std::string problem;
    if (peer <= config_.self || peer >= links_.size())
      problem = "an endpoint with index " + std::to_string(peer) + " is not expected here";
    else if (!c.session().peer_is_named(name(peer)))
      problem = "the certificate is for " + c.session().peer_names() + ", not for " + name(peer);
    if (problem.empty()) {
      const std::lock_guard lock(mutex_);
      if (links_[peer].link || !answering_.insert(peer).second)
        problem = name(peer) + " is connected already";
    }
    handshake.known.store(problem.empty());
    try {
      if (!problem.empty()) {
        note_refusal(problem);
        try {
          send_abort(c, problem);
          c.close_gently();
        } catch (const Error&) {
          // It does not read what it is told.
        }
        return;
      }
      // The peer sees the difference as well, hence the hello before the comparison.
      const Hello ours = new_hello();
      send_hello(c, ours);
      try {
        compare(theirs, peer);
      } catch (const Error&) {
        c.close_gently();
        throw;
      }
      establish(c, peer, ours, theirs);
    } catch (const Hangup&) {
      note_refusal("a connection of " + name(peer) + " that ended during the hello");
      const std::lock_guard lock(mutex_);
      answering_.erase(peer);
    }
  }

  const TlsConfig& config_;
  const TlsContext context_;
  const Clock::time_point deadline_;
  Hello own_;
  std::atomic<bool> stop_{false};
  std::mutex mutex_;
  std::condition_variable changed_;
  std::shared_ptr<IoThread> io_;
  std::vector<LinkState> links_;
  std::set<PeerIndex> answering_;
  std::optional<Error> failure_;
  std::vector<std::string> refusals_;
};

}  // namespace

Listener::Listener(const std::string& host, std::uint16_t port) {
  std::string reason = "no address";
  const Addresses list = resolve(host, port, true);
  for (const addrinfo* a = list.get(); a; a = a->ai_next) {
    UniqueFd fd(::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol));
    const int one = 1;
    if (fd && ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one) == 0 &&
        ::bind(fd.get(), a->ai_addr, a->ai_addrlen) == 0 && ::listen(fd.get(), 64) == 0) {
      fd_ = fd.release();
      return;
    }
    reason = std::strerror(errno);
  }
  throw Error("E-net-connect",
              "cannot listen on " + host + ":" + std::to_string(port) + ": " + reason);
}

Listener Listener::adopt(int fd) { return Listener(fd); }

Listener::Listener(Listener&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

Listener::~Listener() {
  if (fd_ >= 0) ::close(fd_);
}

std::uint16_t Listener::port() const {
  sockaddr_storage address{};
  socklen_t n = sizeof address;
  if (::getsockname(fd_, reinterpret_cast<sockaddr*>(&address), &n) != 0)
    throw Error("E-net-connect", std::string("not a listening socket: ") + std::strerror(errno));
  if (address.ss_family == AF_INET6)
    return ntohs(reinterpret_cast<const sockaddr_in6*>(&address)->sin6_port);
  return ntohs(reinterpret_cast<const sockaddr_in*>(&address)->sin_port);
}

std::unique_ptr<Transport> connect_tls(const TlsConfig& config) {
  require(config.self < config.endpoints.size(), "E-net-usage",
          "self is not in the list of endpoints");
  for (std::size_t i = 0; i < config.endpoints.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      require(config.endpoints[i].name != config.endpoints[j].name, "E-net-usage",
              "two endpoints have the same name", config.endpoints[i].name);
  std::vector<EndpointInfo> infos;
  for (const TlsEndpoint& e : config.endpoints) infos.push_back({e.name, e.places});
  auto links = Connector(config).run();
  return std::make_unique<Endpoint>(config.self, std::move(infos), std::move(links),
                                    config.options);
}

}  // namespace mpcc::net
