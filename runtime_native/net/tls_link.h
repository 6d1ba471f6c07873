// A link over an established TLS connection: asio waits for the socket on the endpoint's one io
// thread, a strand per connection.
//
// The SSL object and the socket are used under one mutex per link, by whoever comes first: the io
// thread, or an engine thread that sends a small message or waits for one. An engine thread only
// ever tries the mutex, so it never waits for the io thread; what it cannot do at once it leaves to
// the io thread. Large messages are always encrypted on the io thread, beside the computation.
#pragma once

#include <asio/executor_work_guard.hpp>
#include <asio/io_context.hpp>
#include <atomic>
#include <cstdint>
#include <memory>
#include <thread>

#include "net/link.h"
#include "net/tls_session.h"

namespace mpcc::net {

// A file descriptor, closed at the end.
class UniqueFd {
 public:
  UniqueFd() noexcept = default;
  explicit UniqueFd(int fd) noexcept : fd_(fd) {}
  UniqueFd(UniqueFd&& other) noexcept : fd_(other.release()) {}
  UniqueFd& operator=(UniqueFd&& other) noexcept;
  UniqueFd(const UniqueFd&) = delete;
  UniqueFd& operator=(const UniqueFd&) = delete;
  ~UniqueFd();

  int get() const noexcept { return fd_; }
  explicit operator bool() const noexcept { return fd_ >= 0; }
  int release() noexcept;

 private:
  int fd_ = -1;
};

// The io thread of an endpoint, shared by its links; ends with the last of them.
class IoThread {
 public:
  IoThread();
  ~IoThread();
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;
  asio::io_context& context() noexcept { return context_; }

 private:
  asio::io_context context_;
  asio::executor_work_guard<asio::io_context::executor_type> work_;
  std::thread thread_;
};

// After handshake and hello.
struct TlsChannel {
  UniqueFd socket;  // non-blocking
  TlsSession session;
  std::uint64_t wire_bytes_sent = 0;
  std::uint64_t wire_bytes_received = 0;
};

std::unique_ptr<Link> make_tls_link(std::shared_ptr<IoThread> io, TlsChannel channel);

}  // namespace mpcc::net
