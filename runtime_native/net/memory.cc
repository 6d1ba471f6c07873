#include "net/memory.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>

#include "net/endpoint.h"
#include "net/keys.h"

namespace mpcc::net {
namespace {

struct Wire;

// One direction. Whoever kicks it carries everything that is queued to the other end; a thread that
// finds another one at it leaves a note and goes on. A kick from inside a delivery (a callback that
// answers) is done after it, so no thread ever holds two pipes, and callbacks may kick and shut.
class Pipe {
 public:
  void set_source(LinkSource* source) {
    const std::lock_guard lock(mutex_);
    source_ = source;
  }
  void set_receiver(LinkReceiver* receiver) {
    const std::lock_guard lock(mutex_);
    receiver_ = receiver;
  }
  void shut() { shut_.store(true); }
  void drop() { dropped_.store(true); }

  // Carries what is queued; see above. `wire` owns this pipe.
  void run(const std::shared_ptr<Wire>& wire);
  // Until nobody is at it and no note is left. Not inside callbacks.
  void settle() const {
    while (requests_.load() != 0) std::this_thread::yield();
  }

  std::atomic<std::uint64_t> bytes{0};
  std::atomic<std::uint64_t> writes{0};

 private:
  // One thread at a time (requests_); the lock keeps set_source and set_receiver away meanwhile, so
  // that an endpoint which takes its pointer back is not called any more.
  void turn() {
    const std::lock_guard lock(mutex_);
    if (receiver_ == nullptr || ended_) return;
    if (dropped_.load()) {
      end("connection reset");
      return;
    }
    const bool last = shut_.load();  // read before the queue: what was queued before it goes out
    if (source_ != nullptr) {
      chunks_.clear();
      source_->take(chunks_);
      if (!chunks_.empty()) writes.fetch_add(1, std::memory_order_relaxed);
      for (Chunk& c : chunks_) {
        deliver(std::span<const std::byte>(c.head).first(c.head_bytes));
        deliver(c.bytes);
        c.owner.reset();
      }
      chunks_.clear();
    }
    if (last || dropped_.load()) end(last ? "closed by the peer" : "connection reset");
  }

  void deliver(std::span<const std::byte> data) {
    bytes.fetch_add(data.size(), std::memory_order_relaxed);
    while (!data.empty() && !dropped_.load(std::memory_order_relaxed)) {
      const auto room = receiver_->prepare();
      if (room.empty()) return;
      const std::size_t n = std::min(room.size(), data.size());
      std::memcpy(room.data(), data.data(), n);
      receiver_->commit(n);
      data = data.subspan(n);
    }
  }

  void end(const char* reason) {
    ended_ = true;
    receiver_->closed(reason);
  }

  std::mutex mutex_;
  LinkSource* source_ = nullptr;
  LinkReceiver* receiver_ = nullptr;
  bool ended_ = false;
  std::vector<Chunk> chunks_;
  std::atomic<unsigned> requests_{0};
  std::atomic<bool> shut_{false};
  std::atomic<bool> dropped_{false};
};

struct Wire {
  std::array<Pipe, 2> pipes;  // [end] carries what that end sends
  SecretBuffer secret;
};

// Pipes that were kicked inside a delivery of this thread.
struct Deferred {
  bool delivering = false;
  std::vector<std::pair<std::shared_ptr<Wire>, Pipe*>> pipes;
};
thread_local Deferred deferred;

void Pipe::run(const std::shared_ptr<Wire>& wire) {
  if (requests_.fetch_add(1) != 0) return;
  deferred.pipes.emplace_back(wire, this);
  if (deferred.delivering) return;
  deferred.delivering = true;
  while (!deferred.pipes.empty()) {
    const auto [owner, pipe] = std::move(deferred.pipes.back());
    deferred.pipes.pop_back();
    unsigned served = 1;
    do {
      served = pipe->requests_.load();
      pipe->turn();
    } while (pipe->requests_.fetch_sub(served) != served);
  }
  deferred.delivering = false;
}

class MemoryLink final : public Link {
 public:
  MemoryLink(std::shared_ptr<Wire> wire, std::size_t end) : wire_(std::move(wire)), end_(end) {}
  ~MemoryLink() override {
    shut();
    out().settle();  // the last words have been heard
    in().set_receiver(nullptr);
    out().set_source(nullptr);
  }

  void start(LinkSource& source, LinkReceiver& receiver) override {
    out().set_source(&source);
    in().set_receiver(&receiver);
    kick();
    in().run(wire_);  // what the other end has queued before
  }
  void kick() override { out().run(wire_); }
  void shut() override {
    out().shut();
    kick();
  }
  void drop() override {
    for (Pipe& p : wire_->pipes) {
      p.drop();
      p.run(wire_);
    }
  }
  LinkCounters counters() const override {
    return {wire_->pipes[end_].bytes.load(), wire_->pipes[1 - end_].bytes.load(),
            wire_->pipes[end_].writes.load()};
  }
  void export_key(const std::string& label, std::span<const std::byte> context,
                  std::span<std::byte> material) override {
    std::vector<std::byte> info(label.size() + 1);
    std::memcpy(info.data(), label.data(), label.size());
    info.insert(info.end(), context.begin(), context.end());
    hkdf_sha256(wire_->secret.bytes(), {}, info, material);
  }

 private:
  Pipe& out() { return wire_->pipes[end_]; }
  Pipe& in() { return wire_->pipes[1 - end_]; }

  std::shared_ptr<Wire> wire_;
  std::size_t end_;
};

std::vector<std::unique_ptr<Transport>> build(const std::vector<EndpointInfo>& endpoints,
                                              std::span<const std::byte> root,
                                              const TransportOptions& options) {
  const auto n = static_cast<PeerIndex>(endpoints.size());
  std::vector<std::vector<LinkState>> links(n);
  for (auto& row : links) row.resize(n);
  for (PeerIndex i = 0; i < n; ++i) {
    for (PeerIndex j = i + 1; j < n; ++j) {
      const std::array<PeerIndex, 2> pair = {i, j};
      std::array<std::byte, 40> material;  // 32 bytes of link secret, 8 of session id
      hkdf_sha256(root, {}, std::as_bytes(std::span(pair)), material);
      auto [a, b] = make_memory_links(std::span(material).first<32>());
      std::uint64_t session = 0;
      std::memcpy(&session, material.data() + 32, sizeof session);
      secure_zero(material.data(), material.size());
      links[i][j].link = std::move(a);
      links[j][i].link = std::move(b);
      links[i][j].session = links[j][i].session = session;
    }
  }
  std::vector<std::unique_ptr<Transport>> out;
  for (PeerIndex i = 0; i < n; ++i)
    out.push_back(std::make_unique<Endpoint>(i, endpoints, std::move(links[i]), options));
  return out;
}

}  // namespace

std::pair<std::unique_ptr<Link>, std::unique_ptr<Link>> make_memory_links(
    std::span<const std::byte> secret) {
  auto wire = std::make_shared<Wire>();
  wire->secret = SecretBuffer(secret.size());
  std::copy(secret.begin(), secret.end(), wire->secret.bytes().begin());
  return {std::make_unique<MemoryLink>(wire, 0), std::make_unique<MemoryLink>(wire, 1)};
}

std::vector<std::unique_ptr<Transport>> make_in_memory_network(
    const std::vector<EndpointInfo>& endpoints, const TransportOptions& options) {
  SecretBuffer root(32);
  random_bytes(root.bytes());
  return build(endpoints, root.bytes(), options);
}

std::vector<std::unique_ptr<Transport>> make_in_memory_network(
    const std::vector<EndpointInfo>& endpoints, FixedSeed seed, const TransportOptions& options) {
  std::array<std::byte, 32> root{};
  std::memcpy(root.data(), &seed.value, sizeof seed.value);
  return build(endpoints, root, options);
}

}  // namespace mpcc::net
