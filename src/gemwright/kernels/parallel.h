// Work in chunks on XLA's own threads, shared by all kernels.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>

#include "xla/ffi/api/ffi.h"

// Tells the processor that a thread waits for another.
inline void linger() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Chunks that threads take until none is left. Shared, because a thread of the pool may look for
// work only after the caller has returned: it then touches nothing but the counter.
class Chunks {
 public:
  Chunks(int64_t count, std::function<void(int64_t)> compute) : count_(count), compute_(std::move(compute)) {}

  void take_all() {
    for (int64_t chunk; (chunk = next_.fetch_add(1)) < count_;) {
      compute_(chunk);
      if (done_.fetch_add(1) + 1 == count_) done_.notify_all();
    }
  }

  // Awake at first: the last chunk mostly ends soon, and being woken takes longer.
  void wait() const {
    for (int look = 0; look < 2000 && done_.load() < count_; ++look) linger();
    for (int64_t done; (done = done_.load()) < count_;) done_.wait(done);
  }

 private:
  int64_t count_;
  std::function<void(int64_t)> compute_;
  std::atomic<int64_t> next_{0}, done_{0};
};

// Calls compute(0) to compute(chunks - 1). The caller works too, and waits only for chunks that
// running threads have taken: called from a thread of the pool itself, it cannot wait for one that
// never starts.
inline void in_parallel(xla::ffi::ThreadPool& pool, int64_t chunks, std::function<void(int64_t)> compute) {
  auto work = std::make_shared<Chunks>(chunks, std::move(compute));
  const int64_t helpers = std::min(pool.num_threads(), chunks) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([work] { work->take_all(); });
  work->take_all();
  work->wait();
}
