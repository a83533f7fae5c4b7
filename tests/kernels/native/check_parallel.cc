// Work in chunks on several threads, as parallel.h spreads it. Meant to be built with the thread sanitizer.
#include <memory>
#include <vector>

#include "checks.h"
#include "parallel.h"

namespace {

// Each chunk runs once, and what it wrote without a lock is seen by the caller.
void check_once(xla::ffi::ThreadPool& pool, int64_t chunks) {
  std::vector<int> times(size_t(chunks), 0);
  in_parallel(pool, chunks, [&](int64_t chunk) { ++times[size_t(chunk)]; });
  for (const int each : times) expect_near("in_parallel: times that a chunk ran", each, 1, 0);
}

// All threads of the pool call in_parallel themselves: none may wait for one that never starts.
void check_from_within(xla::ffi::ThreadPool& pool) {
  std::atomic<int> sum{0};
  in_parallel(pool, 2 * pool.num_threads(), [&](int64_t) { in_parallel(pool, 5, [&](int64_t chunk) { sum += int(chunk); }); });
  expect_near("in_parallel within itself", sum, 20.0 * double(pool.num_threads()), 0);
}

// Threads that look for work after the caller has returned find none and touch nothing of the caller's.
void check_late_threads() {
  auto pool = std::make_unique<xla::ffi::ThreadPool>(3);
  std::atomic<bool> go{false};
  for (int i = 0; i < 3; ++i) pool->Schedule([&] { go.wait(false); });  // all its threads are busy
  {
    auto sum = std::make_unique<int64_t>(0);
    for (int i = 0; i < 3; ++i) in_parallel(*pool, 4, [&](int64_t chunk) { *sum += chunk; });
    expect_near("in_parallel without helpers", double(*sum), 18, 0);
  }
  go = true;
  go.notify_all();
  pool.reset();
}

}  // namespace

int main() {
  for (const int threads : {1, 2, 4}) {
    xla::ffi::ThreadPool pool(threads);
    for (int i = 0; i < 200; ++i) check_once(pool, i % 9);
    for (int i = 0; i < 20; ++i) check_from_within(pool);
  }
  check_late_threads();
  std::puts("chunks run once each, on any number of threads");
}
