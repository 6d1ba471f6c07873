#include "net/tls_link.h"

#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <asio/bind_executor.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/strand.hpp>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <utility>

#include "base/secret_buffer.h"

namespace mpcc::net {
namespace {

constexpr std::size_t kRecord = 16384;                       // plaintext of a full TLS record
constexpr std::size_t kBatch = std::size_t{256} << 10;       // encrypted before each write
constexpr std::size_t kInlineBytes = std::size_t{32} << 10;  // written by the sending thread itself
constexpr int kBatchesPerTurn = 4;                           // then the other links have a turn
constexpr auto kLinger = std::chrono::milliseconds(250);     // for last words, in the destructor

std::string error_text(int code) { return std::strerror(code); }

class Core : public std::enable_shared_from_this<Core> {
 public:
  Core(asio::io_context& io, TlsChannel channel)
      : wire_sent(channel.wire_bytes_sent),
        wire_received(channel.wire_bytes_received),
        session_(std::move(channel.session)),
        strand_(asio::make_strand(io)),
        descriptor_(io, channel.socket.get()),
        fd_(channel.socket.release()),
        staging_(SecretBuffer::uninitialized(kRecord)) {}

  void start(LinkSource& source, LinkReceiver& receiver) {
    {
      const std::lock_guard lock(mutex_);
      source_ = &source;
      receiver_ = &receiver;
    }
    asio::post(strand_, [self = shared_from_this()] {
      {
        const std::lock_guard lock(self->mutex_);
        self->decrypt();  // what came right behind the hello
        self->pump();
      }
      self->await_readable();
    });
  }

  void schedule() {
    if (scheduled_.exchange(true)) return;
    asio::post(strand_, [self = shared_from_this()] {
      self->scheduled_.store(false);
      const std::lock_guard lock(self->mutex_);
      self->pump();
    });
  }

  void push() {
    {
      const std::unique_lock lock(mutex_, std::try_to_lock);
      if (lock && source_ && source_->pending_bytes() <= kInlineBytes) {
        pump();
        return;
      }
    }
    schedule();
  }

  void poll() {
    const std::unique_lock lock(mutex_, std::try_to_lock);
    if (lock) receive_some();
  }

  void resume() {
    if (resumed_.exchange(true)) return;
    asio::post(strand_, [self = shared_from_this()] {
      self->resumed_.store(false);
      const std::lock_guard lock(self->mutex_);
      self->decrypt();
      self->receive_some();
      self->await_readable_again();
    });
  }

  void shut() {
    shut_requested_.store(true);
    schedule();
  }

  void drop() {
    asio::post(strand_, [self = shared_from_this()] {
      const std::lock_guard lock(self->mutex_);
      const linger reset{1, 0};
      if (self->fd_ >= 0) ::setsockopt(self->fd_, SOL_SOCKET, SO_LINGER, &reset, sizeof reset);
      self->close_socket();
      self->end_output();
      self->end_input("cut on this side");
    });
  }

  // No callback after this. Waits for what shut() has to write and for the peer's end of stream, so
  // that unread bytes do not make the kernel reset the connection and lose our last frames.
  void detach() {
    shut();
    {
      std::unique_lock lock(mutex_);
      finished_.wait_for(lock, kLinger, [&] { return input_ended_ && output_ended_; });
      source_ = nullptr;
      receiver_ = nullptr;
      chunks_.clear();
    }
    asio::post(strand_, [self = shared_from_this()] {
      const std::lock_guard lock(self->mutex_);
      self->close_socket();
      self->input_ended_ = self->output_ended_ = true;
    });
  }

  void export_key(const std::string& label, std::span<const std::byte> context,
                  std::span<std::byte> out) {
    const std::lock_guard lock(mutex_);
    session_.export_key(label, context, out);
  }

  std::atomic<std::uint64_t> wire_sent;
  std::atomic<std::uint64_t> wire_received;
  std::atomic<std::uint64_t> writes{0};

 private:
  // --- strand ---
  void await_readable() {
    const std::lock_guard lock(mutex_);
    await_readable_again();
  }

  // With the mutex. Not while the receiver is paused: bytes in the socket would wake it at once.
  void await_readable_again() {
    if (input_ended_ || awaiting_readable_ || is_paused()) return;
    awaiting_readable_ = true;
    descriptor_.async_wait(
        asio::posix::stream_descriptor::wait_read,
        asio::bind_executor(strand_, [self = shared_from_this()](const asio::error_code& error) {
          if (error) return;  // closed on this side
          const std::lock_guard inner(self->mutex_);
          self->awaiting_readable_ = false;
          self->receive_some();
          self->await_readable_again();
        }));
  }

  bool is_paused() { return receiver_ != nullptr && receiver_->paused(); }

  void await_writable() {
    asio::post(strand_, [self = shared_from_this()] {
      const std::lock_guard lock(self->mutex_);
      if (self->output_ended_) return;
      self->descriptor_.async_wait(
          asio::posix::stream_descriptor::wait_write,
          asio::bind_executor(self->strand_, [self](const asio::error_code& error) {
            if (error) return;
            const std::lock_guard inner(self->mutex_);
            self->awaiting_writable_ = false;
            self->pump();
          }));
    });
  }

  // --- with the mutex, any thread ---
  void receive_some() {
    for (int i = 0; i < kBatchesPerTurn && !input_ended_ && !is_paused(); ++i) {
      const auto room = session_.input_room();
      const ssize_t n = ::recv(fd_, room.data(), room.size(), MSG_DONTWAIT);
      if (n < 0) {
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != EWOULDBLOCK) end_input(error_text(errno));
        return;
      }
      if (n == 0) {
        end_input("closed by the peer");
        return;
      }
      wire_received.fetch_add(static_cast<std::uint64_t>(n), std::memory_order_relaxed);
      session_.input_added(static_cast<std::size_t>(n));
      decrypt();
      if (static_cast<std::size_t>(n) < room.size()) return;
    }
  }

  void decrypt() {
    bool ended = false;
    try {
      while (!input_ended_ && !ended && !is_paused()) {
        std::span<std::byte> room = receiver_ ? receiver_->prepare() : std::span<std::byte>();
        const bool wanted = !room.empty();
        if (!wanted) room = discard_;
        const std::size_t n = session_.read(room, ended);
        if (n == 0) break;
        if (wanted) receiver_->commit(n);
      }
    } catch (const Error& e) {
      end_input(e.message());
      schedule();  // OpenSSL has left an alert for the peer
      return;
    }
    if (ended) end_input("closed by the peer");
  }

  void pump() {
    for (int i = 0; !output_ended_ && !awaiting_writable_; ++i) {
      if (!write_ciphertext()) return;
      if (i == kBatchesPerTurn) {
        schedule();
        return;
      }
      const bool last = shut_requested_.load();  // before take(): what was queued by then goes out
      if (next_ == chunks_.size()) {
        chunks_.clear();
        next_ = offset_ = 0;
        if (source_) source_->take(chunks_);
      }
      try {
        if (next_ < chunks_.size()) {
          encrypt_batch();
          continue;
        }
        if (!last) return;
        session_.write_close_notify();
      } catch (const Error&) {
        end_output();  // the reading side finds out why
        return;
      }
      if (!write_ciphertext()) return;
      ::shutdown(fd_, SHUT_WR);
      end_output();
    }
  }

  // False when the socket is full or broken.
  bool write_ciphertext() {
    while (!session_.output().empty()) {
      const auto out = session_.output();
      const ssize_t n = ::send(fd_, out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (n >= 0) {
        writes.fetch_add(1, std::memory_order_relaxed);
        wire_sent.fetch_add(static_cast<std::uint64_t>(n), std::memory_order_relaxed);
        session_.output_sent(static_cast<std::size_t>(n));
      } else if (errno == EAGAIN || errno == EWOULDBLOCK) {
        awaiting_writable_ = true;
        await_writable();
        return false;
      } else if (errno != EINTR) {
        end_output();
        return false;
      }
    }
    return true;
  }

  // Small pieces share a record; large ones are encrypted from where they lie.
  void encrypt_batch() {
    std::size_t staged = 0;
    std::size_t total = 0;
    const auto flush = [&] {
      session_.write(staging_.bytes().first(staged));
      staged = 0;
    };
    const auto stage = [&](std::span<const std::byte> bytes) {
      std::memcpy(staging_.data() + staged, bytes.data(), bytes.size());
      staged += bytes.size();
      total += bytes.size();
      if (staged == kRecord) flush();
    };
    while (total < kBatch && next_ < chunks_.size()) {
      Chunk& chunk = chunks_[next_];
      // offset_ counts through head and bytes together.
      if (offset_ < chunk.head_bytes) {
        const auto head = std::span<const std::byte>(chunk.head).first(chunk.head_bytes);
        const std::size_t n = std::min(head.size() - offset_, kRecord - staged);
        stage(head.subspan(offset_, n));
        offset_ += n;
        continue;
      }
      const auto rest = chunk.bytes.subspan(offset_ - chunk.head_bytes);
      if (rest.empty()) {
        chunk.owner.reset();
        ++next_;
        offset_ = 0;
      } else if (staged == 0 && rest.size() >= kRecord) {
        const std::size_t n = std::min(rest.size() / kRecord * kRecord, kBatch);
        session_.write(rest.first(n));
        total += n;
        offset_ += n;
      } else {
        const std::size_t n = std::min(rest.size(), kRecord - staged);
        stage(rest.first(n));
        offset_ += n;
      }
    }
    if (staged != 0) flush();
  }

  void end_input(const std::string& reason) {
    if (std::exchange(input_ended_, true)) return;
    if (receiver_) receiver_->closed(reason);
    finished_.notify_all();
  }

  void end_output() {
    if (std::exchange(output_ended_, true)) return;
    chunks_.clear();
    next_ = offset_ = 0;
    finished_.notify_all();
  }

  void close_socket() {
    asio::error_code ignored;
    if (fd_ >= 0) descriptor_.close(ignored);
    fd_ = -1;
  }

  std::mutex mutex_;  // of everything below
  std::condition_variable finished_;
  TlsSession session_;
  LinkSource* source_ = nullptr;
  LinkReceiver* receiver_ = nullptr;
  asio::strand<asio::io_context::executor_type> strand_;
  asio::posix::stream_descriptor descriptor_;
  int fd_;
  SecretBuffer staging_;
  std::array<std::byte, 4096> discard_{};
  std::vector<Chunk> chunks_;
  std::size_t next_ = 0;
  std::size_t offset_ = 0;
  bool input_ended_ = false;
  bool output_ended_ = false;
  bool awaiting_writable_ = false;
  bool awaiting_readable_ = false;
  std::atomic<bool> resumed_{false};
  std::atomic<bool> scheduled_{false};
  std::atomic<bool> shut_requested_{false};
};

class TlsLink final : public Link {
 public:
  TlsLink(std::shared_ptr<IoThread> io, TlsChannel channel)
      : io_(std::move(io)), core_(std::make_shared<Core>(io_->context(), std::move(channel))) {}
  ~TlsLink() override { core_->detach(); }

  void start(LinkSource& source, LinkReceiver& receiver) override {
    core_->start(source, receiver);
  }
  void kick() override { core_->schedule(); }
  void push() override { core_->push(); }
  void poll() override { core_->poll(); }
  void resume() override { core_->resume(); }
  void shut() override { core_->shut(); }
  void drop() override { core_->drop(); }
  // Every cipher suite of TLS 1.3 is.
  bool authenticated() const noexcept override { return true; }
  LinkCounters counters() const override {
    return {core_->wire_sent.load(), core_->wire_received.load(), core_->writes.load()};
  }
  void export_key(const std::string& label, std::span<const std::byte> context,
                  std::span<std::byte> out) override {
    core_->export_key(label, context, out);
  }

 private:
  std::shared_ptr<IoThread> io_;
  std::shared_ptr<Core> core_;
};

}  // namespace

UniqueFd& UniqueFd::operator=(UniqueFd&& other) noexcept {
  if (this != &other) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = other.release();
  }
  return *this;
}

UniqueFd::~UniqueFd() {
  if (fd_ >= 0) ::close(fd_);
}

int UniqueFd::release() noexcept { return std::exchange(fd_, -1); }

IoThread::IoThread() : work_(context_.get_executor()), thread_([this] { context_.run(); }) {}

IoThread::~IoThread() {
  // Every link has closed its socket, so run() comes to its end by itself.
  work_.reset();
  thread_.join();
}

std::unique_ptr<Link> make_tls_link(std::shared_ptr<IoThread> io, TlsChannel channel) {
  return std::make_unique<TlsLink>(std::move(io), std::move(channel));
}

}  // namespace mpcc::net
