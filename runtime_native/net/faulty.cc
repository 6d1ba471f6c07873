#include "net/faulty.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace mpcc::net {
namespace {

using Frame = std::vector<Chunk>;

bool is_data(const Frame& frame) {
  return frame.front().head_bytes == kHeaderBytes &&
         decode_header(frame.front().head).kind == FrameKind::data;
}

// The frame as one owned buffer, to be changed.
std::shared_ptr<std::vector<std::byte>> flatten(const Frame& frame) {
  auto bytes = std::make_shared<std::vector<std::byte>>();
  for (const Chunk& c : frame) {
    bytes->insert(bytes->end(), c.head.begin(),
                  c.head.begin() + static_cast<std::ptrdiff_t>(c.head_bytes));
    bytes->insert(bytes->end(), c.bytes.begin(), c.bytes.end());
  }
  return bytes;
}

Frame from_bytes(const std::shared_ptr<std::vector<std::byte>>& bytes) {
  Chunk c;
  c.bytes = *bytes;
  c.owner = bytes;
  return {c};
}

class FaultyLink final : public Link, private LinkSource {
 public:
  FaultyLink(std::unique_ptr<Link> inner, Fault fault)
      : fault_(std::move(fault)), inner_(std::move(inner)) {}

  ~FaultyLink() override {
    {
      const std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    wake_.notify_all();
    if (timer_.joinable()) timer_.join();
  }

  void start(LinkSource& source, LinkReceiver& receiver) override {
    source_ = &source;
    inner_->start(*this, receiver);
  }
  void kick() override { inner_->kick(); }
  void push() override { inner_->push(); }
  void poll() override { inner_->poll(); }
  void shut() override {
    if (!stalled_.load()) inner_->shut();
  }
  void drop() override { inner_->drop(); }
  void resume() override { inner_->resume(); }
  bool authenticated() const noexcept override { return inner_->authenticated(); }
  // It changes frames before they are encrypted.
  bool needs_checksums() const noexcept override { return true; }
  LinkCounters counters() const override { return inner_->counters(); }
  void export_key(const std::string& label, std::span<const std::byte> context,
                  std::span<std::byte> out) override {
    inner_->export_key(label, context, out);
  }
  std::size_t pending_bytes() const noexcept override { return source_->pending_bytes(); }

 private:
  // Called by one thread at a time, like every LinkSource.
  void take(std::vector<Chunk>& out) override {
    {
      const std::lock_guard lock(mutex_);
      hold_ = holding_;
      if (!hold_) {
        std::move(held_.begin(), held_.end(), std::back_inserter(out));
        held_.clear();
      }
    }
    std::vector<Chunk> chunks;
    source_->take(chunks);
    if (cut_ || stalled_.load()) return;
    std::vector<Frame> frames;
    for (Chunk& c : chunks) {
      if (c.head_bytes == kHeaderBytes || frames.empty()) frames.emplace_back();
      frames.back().push_back(std::move(c));
    }
    for (Frame& frame : frames) {
      // What was held back by reorder leaves behind the frame that came after it.
      if (!swapped_.empty()) {
        emit(out, std::move(frame));
        emit(out, std::exchange(swapped_, {}));
        continue;
      }
      if (!is_data(frame)) {
        emit(out, std::move(frame));
        continue;
      }
      const bool hit = seen_++ == fault_.message;
      Frame copy = frame;
      if (hit)
        spoil(out, std::move(frame));
      else
        emit(out, std::move(frame));
      previous_ = std::move(copy);
      if (cut_ || stalled_.load()) return;
    }
  }

  void spoil(std::vector<Chunk>& out, Frame frame) {
    switch (fault_.kind) {
      case FaultKind::drop:
        cut_ = true;
        inner_->drop();
        return;
      case FaultKind::stall:
        stalled_.store(true);
        return;
      case FaultKind::delay:
        hold_ = true;
        {
          const std::lock_guard lock(mutex_);
          holding_ = true;
        }
        timer_ = std::thread([this] { release_later(); });
        emit(out, std::move(frame));
        return;
      case FaultKind::corrupt: {
        auto bytes = flatten(frame);
        bytes->at(fault_.offset) ^= std::byte{0x10};
        emit(out, from_bytes(bytes));
        return;
      }
      case FaultKind::truncate: {
        auto bytes = flatten(frame);
        bytes->resize(bytes->size() - std::min(fault_.offset, bytes->size()));
        emit(out, from_bytes(bytes));
        cut_ = true;
        inner_->shut();
        return;
      }
      case FaultKind::duplicate:
        emit(out, Frame(frame));
        emit(out, std::move(frame));
        return;
      case FaultKind::replay:
        emit(out, Frame(previous_));
        return;
      case FaultKind::reorder:
        swapped_ = std::move(frame);
        return;
      case FaultKind::rewrite: {
        FrameHeader header = decode_header(frame.front().head);
        fault_.rewrite(header);
        frame.front().head = encode_header(header);
        emit(out, std::move(frame));
        return;
      }
    }
  }

  void emit(std::vector<Chunk>& out, Frame frame) {
    if (!hold_) {
      std::move(frame.begin(), frame.end(), std::back_inserter(out));
      return;
    }
    const std::lock_guard lock(mutex_);
    std::move(frame.begin(), frame.end(), std::back_inserter(held_));
  }

  void release_later() {
    {
      std::unique_lock lock(mutex_);
      wake_.wait_for(lock, fault_.duration, [&] { return stopping_; });
      if (stopping_) return;
      holding_ = false;
    }
    inner_->kick();
  }

  const Fault fault_;
  LinkSource* source_ = nullptr;
  std::uint64_t seen_ = 0;
  Frame previous_;
  Frame swapped_;
  bool cut_ = false;
  bool hold_ = false;  // holding_, as take() found or made it
  std::atomic<bool> stalled_{false};

  std::mutex mutex_;  // guards what the delay's timer touches
  std::condition_variable wake_;
  bool holding_ = false;
  bool stopping_ = false;
  std::vector<Chunk> held_;
  std::thread timer_;
  // Last, so that it goes first: its callbacks use all of the above.
  const std::unique_ptr<Link> inner_;
};

}  // namespace

LinkDecorator faulty(std::uint32_t self, std::uint32_t peer, Fault fault) {
  if (fault.kind == FaultKind::rewrite && !fault.rewrite)
    throw Error("E-net-usage", "a rewrite fault needs its function");
  return [self, peer, fault = std::move(fault)](std::unique_ptr<Link> link, std::uint32_t at,
                                                std::uint32_t to) -> std::unique_ptr<Link> {
    if (at != self || to != peer) return link;
    return std::make_unique<FaultyLink>(std::move(link), fault);
  };
}

}  // namespace mpcc::net
