#include "net/shaped.h"

#include <sys/prctl.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <string>
#include <thread>
#include <utility>

#include "base/error.h"
#include "net/peer.h"

namespace mpcc::net {
namespace {

constexpr std::size_t kSlice = std::size_t{64} << 10;

class ShapedLink final : public Link, private LinkSource {
 public:
  ShapedLink(std::unique_ptr<Link> inner, NetworkProfile profile)
      : profile_(profile), inner_(std::move(inner)) {}

  ~ShapedLink() override {
    {
      // What was queued before shut() still arrives, as on a real network: at most a moment, the
      // rest is lost.
      std::unique_lock lock(mutex_);
      idle_.wait_for(lock, std::chrono::milliseconds(250) + profile_.one_way,
                     [&] { return slices_.empty(); });
      stopping_ = true;
    }
    wake_.notify_all();
    if (timer_.joinable()) timer_.join();
  }

  void start(LinkSource& source, LinkReceiver& receiver) override {
    source_ = &source;
    inner_->start(*this, receiver);
    timer_ = std::thread([this] { run_timer(); });
  }
  void kick() override { admit(false); }
  void push() override {
    admit(false);
    release(true);
  }
  void poll() override {
    release(true);
    inner_->poll();
  }
  void shut() override { admit(true); }
  void drop() override {
    {
      const std::lock_guard lock(mutex_);
      slices_.clear();
    }
    inner_->drop();
  }
  void resume() override { inner_->resume(); }
  bool authenticated() const noexcept override { return inner_->authenticated(); }
  bool needs_checksums() const noexcept override { return inner_->needs_checksums(); }
  LinkCounters counters() const override { return inner_->counters(); }
  void export_key(const std::string& label, std::span<const std::byte> context,
                  std::span<std::byte> out) override {
    inner_->export_key(label, context, out);
  }

 private:
  struct Slice {
    Clock::time_point due;
    Chunk chunk;
  };

  // Takes what the source has and gives each slice its time of arrival.
  void admit(bool shut) {
    bool done = false;
    {
      const std::lock_guard lock(mutex_);
      const auto now = Clock::now();
      admitted_.clear();
      source_->take(admitted_);
      for (Chunk& c : admitted_) {
        while (c.size() > kSlice) {
          Chunk part;
          part.head = c.head;
          part.head_bytes = std::exchange(c.head_bytes, 0);
          part.bytes = c.bytes.first(kSlice - part.head_bytes);
          part.owner = c.owner;
          c.bytes = c.bytes.subspan(part.bytes.size());
          schedule(now, std::move(part));
        }
        schedule(now, std::move(c));
      }
      admitted_.clear();
      shut_ = shut_ || shut;
      done = shut_ && slices_.empty();
    }
    wake_.notify_all();
    if (done) inner_->shut();
  }

  void schedule(Clock::time_point now, Chunk chunk) {
    auto start = std::max(now, line_free_);
    if (profile_.bits_per_second > 0)
      start += std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(
          static_cast<double>(chunk.size()) * 8.0 / profile_.bits_per_second));
    line_free_ = start;
    pending_.fetch_add(chunk.size(), std::memory_order_relaxed);
    slices_.push_back(
        {start + std::chrono::duration_cast<Clock::duration>(profile_.one_way), std::move(chunk)});
  }

  // Tells the inner link when something is due; it then pulls with take().
  void release(bool may_write) {
    bool due = false;
    {
      const std::lock_guard lock(mutex_);
      due = !slices_.empty() && slices_.front().due <= Clock::now();
    }
    if (!due) return;
    if (may_write)
      inner_->push();
    else
      inner_->kick();
  }

  void take(std::vector<Chunk>& out) override {
    bool done = false;
    {
      const std::lock_guard lock(mutex_);
      const auto now = Clock::now();
      while (!slices_.empty() && slices_.front().due <= now) {
        pending_.fetch_sub(slices_.front().chunk.size(), std::memory_order_relaxed);
        out.push_back(std::move(slices_.front().chunk));
        slices_.pop_front();
      }
      done = shut_ && slices_.empty();
      if (slices_.empty()) idle_.notify_all();
    }
    // Inside a callback of the inner link: shut() only leaves a note there.
    if (done) inner_->shut();
  }
  std::size_t pending_bytes() const noexcept override {
    return pending_.load(std::memory_order_relaxed);
  }

  void run_timer() {
    // Linux rounds sleeps up by 50 us unless asked not to; that is half of a LAN's latency.
    prctl(PR_SET_TIMERSLACK, 1000UL, 0UL, 0UL, 0UL);
    std::unique_lock lock(mutex_);
    while (!stopping_) {
      if (slices_.empty()) {
        wake_.wait(lock);
        continue;
      }
      const auto due = slices_.front().due;
      if (Clock::now() < due) {
        wake_.wait_until(lock, due);
        continue;
      }
      lock.unlock();
      inner_->push();
      lock.lock();
      if (!slices_.empty() && slices_.front().due <= Clock::now())
        // The inner link is busy and will come back for it by itself, or it has ended.
        wake_.wait_for(lock, std::chrono::milliseconds(1));
    }
  }

  const NetworkProfile profile_;
  LinkSource* source_ = nullptr;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::condition_variable idle_;
  std::deque<Slice> slices_;
  std::vector<Chunk> admitted_;
  Clock::time_point line_free_{};
  bool shut_ = false;
  bool stopping_ = false;
  std::atomic<std::size_t> pending_{0};
  std::thread timer_;
  // Last, so that it goes first: its callbacks use all of the above.
  const std::unique_ptr<Link> inner_;
};

}  // namespace

NetworkProfile lan_profile() { return {10e9, std::chrono::microseconds(100)}; }
NetworkProfile wan_profile() { return {352e6, std::chrono::milliseconds(20)}; }

NetworkProfile network_profile(std::string_view name) {
  if (name == "none") return {};
  if (name == "lan") return lan_profile();
  if (name == "wan") return wan_profile();
  throw Error("E-net-usage",
              "unknown network profile '" + std::string(name) + "'; known: none, lan, wan");
}

LinkDecorator shaped(const NetworkProfile& profile) {
  return [profile](std::unique_ptr<Link> link, std::uint32_t, std::uint32_t) {
    if (profile.bits_per_second <= 0 && profile.one_way.count() == 0) return link;
    return std::unique_ptr<Link>(std::make_unique<ShapedLink>(std::move(link), profile));
  };
}

LinkDecorator compose(LinkDecorator inner, LinkDecorator outer) {
  return [inner = std::move(inner), outer = std::move(outer)](
             std::unique_ptr<Link> link, std::uint32_t self, std::uint32_t peer) {
    return outer(inner(std::move(link), self, peer), self, peer);
  };
}

}  // namespace mpcc::net
