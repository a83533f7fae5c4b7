// The XLA handler of the thin product: checks, choice of the instruction set, threads.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

#include "thin_rows.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// The function for a level; for "" the widest that this processor has; nullptr if it has not got it.
ThinRows* choose(std::string_view level) {
  const bool any = level.empty();
#if defined(GEMWRIGHT_X86)
  const bool fma = __builtin_cpu_supports("fma");
  if ((any || level == "avx512") && fma && __builtin_cpu_supports("avx512f")) return thin_rows_avx512;
  if ((any || level == "avx2") && fma && __builtin_cpu_supports("avx2")) return thin_rows_avx2;
#endif
  return any || level == "portable" ? thin_rows_portable : nullptr;
}

// Chunks of weight rows that threads take until none is left. Shared, because a thread of the pool
// may look for work only after the caller has returned: it then touches nothing but the counter.
class Work {
 public:
  Work(const ThinProduct& product, ThinRows* compute) : product_(product), compute_(compute) {
    constexpr int64_t kBytes = 128 << 10, kRowsMultiple = 4;
    const int64_t row_bytes = std::max<int64_t>(1, 2 * product.in);
    rows_ = std::max<int64_t>(1, kBytes / row_bytes / kRowsMultiple) * kRowsMultiple;
    chunks_ = (product.outs + rows_ - 1) / rows_;
  }

  int64_t chunks() const { return chunks_; }

  void take_all() {
    for (int64_t chunk; (chunk = next_.fetch_add(1)) < chunks_;) {
      compute_(product_, chunk * rows_, std::min(product_.outs, (chunk + 1) * rows_));
      if (done_.fetch_add(1) + 1 == chunks_) done_.notify_all();
    }
  }

  void wait() const {
    for (int64_t done; (done = done_.load()) < chunks_;) done_.wait(done);
  }

 private:
  ThinProduct product_;
  ThinRows* compute_;
  int64_t rows_, chunks_;
  std::atomic<int64_t> next_{0}, done_{0};
};

// The caller works too, and waits only for chunks that running threads have taken: called from a
// thread of the pool itself, it cannot wait for one that never starts.
void run(ffi::ThreadPool& pool, const ThinProduct& product, ThinRows* compute) {
  auto work = std::make_shared<Work>(product, compute);
  const int64_t helpers = std::min(pool.num_threads(), work->chunks()) - 1;
  for (int64_t i = 0; i < helpers; ++i) pool.Schedule([work] { work->take_all(); });
  work->take_all();
  work->wait();
}

ffi::Error thin_product(ffi::ThreadPool pool, ffi::BufferR2<ffi::F32> rows, ffi::BufferR2<ffi::BF16> matrix,
                        std::string_view level, ffi::ResultBufferR2<ffi::F32> out) {
  const int64_t n = rows.dimensions()[0], in = rows.dimensions()[1], outs = matrix.dimensions()[0];
  if (matrix.dimensions()[1] != in || out->dimensions()[0] != n || out->dimensions()[1] != outs)
    return ffi::Error::InvalidArgument("thin_product: shapes do not fit");
  ThinRows* compute = choose(level);
  if (compute == nullptr)
    return ffi::Error::InvalidArgument("thin_product: this processor does not support " + std::string(level));
  const auto* bits = reinterpret_cast<const uint16_t*>(matrix.untyped_data());
  run(pool, {rows.typed_data(), bits, out->typed_data(), n, in, outs}, compute);
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_thin_product(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_thin_product, thin_product,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR2<ffi::F32>>()
                                  .Arg<ffi::BufferR2<ffi::BF16>>()
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::BufferR2<ffi::F32>>());
