// A link: the ordered, reliable byte stream to one peer, below frames. Implementations: TLS
// (tls_link), memory (memory), and the wrappers that make a link slow (shaped) or bad (faulty).
//
// The link pulls what it sends from a LinkSource when it can write, so everything that was queued
// in the meantime goes out together; and it asks a LinkReceiver where to put the bytes that arrive.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "net/frame.h"

namespace mpcc::net {

// A piece of the outgoing byte stream: `head` (its first head_bytes), then `bytes`. A frame starts
// at a chunk whose head_bytes is kHeaderBytes.
struct Chunk {
  HeaderBytes head{};
  std::size_t head_bytes = 0;
  std::span<const std::byte> bytes;
  std::shared_ptr<const void> owner;  // keeps `bytes` alive

  std::size_t size() const noexcept { return head_bytes + bytes.size(); }
};

class LinkSource {
 public:
  // Appends everything that is queued. Called by one thread at a time.
  virtual void take(std::vector<Chunk>& out) = 0;
  // Bytes that take() would give, roughly; any thread.
  virtual std::size_t pending_bytes() const noexcept = 0;

 protected:
  ~LinkSource() = default;
};

// Called by one thread at a time.
class LinkReceiver {
 public:
  // Where the next bytes go; empty means that nothing more is wanted (discard it).
  virtual std::span<std::byte> prepare() noexcept = 0;
  // The receiver has no room for what comes next: call neither prepare() nor commit() until
  // Link::resume(). A link that cannot wait may call prepare() all the same.
  virtual bool paused() noexcept { return false; }
  // n bytes (at most prepare().size()) have been written there.
  virtual void commit(std::size_t n) noexcept = 0;
  // The stream has ended: no call follows this one. The reason is for people.
  virtual void closed(const std::string& reason) noexcept = 0;

 protected:
  ~LinkReceiver() = default;
};

struct LinkCounters {
  std::uint64_t wire_bytes_sent = 0;      // as given to the operating system, TLS included
  std::uint64_t wire_bytes_received = 0;  // handshake included
  std::uint64_t writes = 0;               // calls that handed bytes to the operating system
};

class Link {
 public:
  // After the destructor there are no more calls to source and receiver. It waits a short moment
  // for what shut() still has to write.
  virtual ~Link() = default;

  // Both outlive the link. Called once, before anything else.
  virtual void start(LinkSource& source, LinkReceiver& receiver) = 0;
  // The source has something. Any thread, also inside the receiver's callbacks; never waits.
  virtual void kick() = 0;
  // Like kick(), but may write on the calling thread where that is quick. Not inside callbacks.
  virtual void push() { kick(); }
  // Looks for arrived bytes on the calling thread (a thread that waits polls, which spares two
  // thread switches). Not inside callbacks.
  virtual void poll() {}
  // The receiver may have room again after paused(). Any thread, never waits.
  virtual void resume() {}
  // Writes what is queued, then ends the outgoing stream. Any thread, never waits.
  virtual void shut() = 0;
  // Cuts the connection at once, as a crash would.
  virtual void drop() = 0;

  // Whether a byte that was changed on the way ends the stream, as in TLS: what arrives needs no
  // checksum then.
  virtual bool authenticated() const noexcept { return false; }
  // Whether what is sent needs checksums.
  virtual bool needs_checksums() const noexcept { return !authenticated(); }

  virtual LinkCounters counters() const = 0;
  // Key material that both ends of this link, and nobody else, can compute (RFC 8446, 7.5).
  virtual void export_key(const std::string& label, std::span<const std::byte> context,
                          std::span<std::byte> out) = 0;
};

// Wraps the link to peer number `peer` of endpoint number `self`.
using LinkDecorator = std::function<std::unique_ptr<Link>(std::unique_ptr<Link> link,
                                                          std::uint32_t self, std::uint32_t peer)>;

}  // namespace mpcc::net
