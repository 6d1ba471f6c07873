// A small fork-join pool: parallel_for over index ranges, nothing else.
#pragma once

#include <cstddef>
#include <memory>
#include <type_traits>

namespace mpcc {

// `threads` counts the caller: ThreadPool(1) starts no thread and runs everything inline, so code
// can always take a pool. A pool may be shared by several callers: whoever finds it busy, and
// whoever is already inside one of its bodies, runs inline on its own thread, so nesting cannot
// deadlock. Which thread runs which range is not deterministic; results must not depend on it.
class ThreadPool {
 public:
  // Throws Error("E-threads") unless 1 <= threads <= 1024.
  explicit ThreadPool(int threads);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const noexcept { return threads_; }

  // Calls body(begin, end) on disjoint ranges that cover [0, n), each of `grain` indices (the last
  // may be shorter), and returns when all are done. The first exception is rethrown here; ranges
  // that have not begun by then are skipped.
  template <class Body>
  void parallel_for(std::size_t n, std::size_t grain, Body&& body) {
    using Fn = std::remove_reference_t<Body>;
    run(
        n, grain == 0 ? 1 : grain,
        [](void* context, std::size_t begin, std::size_t end) {
          (*static_cast<Fn*>(context))(begin, end);
        },
        const_cast<void*>(static_cast<const void*>(&body)));
  }

  // A grain that gives every thread a few ranges, but none of fewer than `least` indices.
  std::size_t grain_for(std::size_t n, std::size_t least) const noexcept;

 private:
  using Trampoline = void (*)(void*, std::size_t, std::size_t);
  struct State;

  void run(std::size_t n, std::size_t grain, Trampoline body, void* context);

  int threads_;
  std::unique_ptr<State> state_;
};

}  // namespace mpcc
