#include "base/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <exception>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "base/error.h"

namespace mpcc {

struct ThreadPool::State {
  std::atomic<bool> taken{false};  // set while the workers run some caller's job

  std::mutex mutex;  // guards everything below except `next`
  std::condition_variable start;
  std::condition_variable done;
  std::uint64_t generation = 0;
  int busy = 0;  // workers that have not finished the current generation
  bool stop = false;
  Trampoline body = nullptr;
  void* context = nullptr;
  std::size_t n = 0;
  std::size_t grain = 1;
  std::exception_ptr error;

  std::atomic<std::size_t> next{0};  // first range that nobody has taken
  std::vector<std::thread> workers;

  // Takes ranges until none is left.
  void drain() {
    const std::size_t ranges = (n - 1) / grain + 1;
    for (;;) {
      const std::size_t i = next.fetch_add(1, std::memory_order_relaxed);
      if (i >= ranges) return;
      const std::size_t begin = i * grain;
      try {
        body(context, begin, begin + std::min(grain, n - begin));
      } catch (...) {
        next.store(ranges, std::memory_order_relaxed);
        const std::lock_guard lock(mutex);
        if (!error) error = std::current_exception();
        return;
      }
    }
  }

  void work() {
    std::uint64_t seen = 0;
    std::unique_lock lock(mutex);
    for (;;) {
      start.wait(lock, [&] { return stop || generation != seen; });
      if (stop) return;
      seen = generation;
      lock.unlock();
      drain();
      lock.lock();
      if (--busy == 0) done.notify_one();
    }
  }
};

namespace {
// The pool whose body this thread is running, so that nested calls run inline.
thread_local const ThreadPool* current_pool = nullptr;
}  // namespace

ThreadPool::ThreadPool(int threads) : threads_(threads), state_(std::make_unique<State>()) {
  if (threads < 1 || threads > 1024)
    throw Error("E-threads", "thread count must be 1 to 1024, not " + std::to_string(threads));
  state_->workers.reserve(static_cast<std::size_t>(threads - 1));
  for (int i = 1; i < threads; ++i)
    state_->workers.emplace_back([this] {
      current_pool = this;
      state_->work();
    });
}

ThreadPool::~ThreadPool() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->start.notify_all();
  for (std::thread& t : state_->workers) t.join();
}

std::size_t ThreadPool::grain_for(std::size_t n, std::size_t least) const noexcept {
  const auto pieces = static_cast<std::size_t>(threads_ == 1 ? 1 : threads_ * 4);
  return std::max({n / pieces + (n % pieces != 0 ? 1 : 0), least, std::size_t{1}});
}

void ThreadPool::run(std::size_t n, std::size_t grain, Trampoline body, void* context) {
  if (n == 0) return;
  State& s = *state_;
  if (threads_ == 1 || n <= grain || current_pool == this ||
      s.taken.exchange(true, std::memory_order_acquire)) {
    // Same ranges as with threads, so that a body may rely on their length.
    for (std::size_t begin = 0; begin < n;) {
      const std::size_t end = begin + std::min(grain, n - begin);
      body(context, begin, end);
      begin = end;
    }
    return;
  }
  {
    const std::lock_guard lock(s.mutex);
    s.body = body;
    s.context = context;
    s.n = n;
    s.grain = grain;
    s.error = nullptr;
    s.busy = threads_ - 1;
    s.next.store(0, std::memory_order_relaxed);
    ++s.generation;
  }
  s.start.notify_all();

  const ThreadPool* outer = current_pool;
  current_pool = this;
  s.drain();
  current_pool = outer;

  std::exception_ptr error;
  {
    std::unique_lock lock(s.mutex);
    s.done.wait(lock, [&] { return s.busy == 0; });
    error = std::exchange(s.error, nullptr);
  }
  s.taken.store(false, std::memory_order_release);
  if (error) std::rethrow_exception(error);
}

}  // namespace mpcc
