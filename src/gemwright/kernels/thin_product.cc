// The XLA handler of the thin product: checks, choice of the instruction set, threads.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "levels.h"
#include "parallel.h"
#include "thin_rows.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// Weight rows that a thread takes at once: about 128 KiB, a multiple of 4.
int64_t rows_together(int64_t in) {
  constexpr int64_t kBytes = 128 << 10, kMultiple = 4;
  return std::max<int64_t>(1, kBytes / std::max<int64_t>(1, 2 * in) / kMultiple) * kMultiple;
}

ffi::Error thin_product(ffi::ThreadPool pool, ffi::BufferR2<ffi::F32> rows, ffi::BufferR2<ffi::BF16> matrix,
                        std::string_view level, ffi::ResultBufferR2<ffi::F32> out) {
  const int64_t n = rows.dimensions()[0], in = rows.dimensions()[1], outs = matrix.dimensions()[0];
  if (matrix.dimensions()[1] != in || out->dimensions()[0] != n || out->dimensions()[1] != outs)
    return ffi::Error::InvalidArgument("thin_product: shapes do not fit");
  ThinRows* compute = VARIANT_OF(thin_rows, level);
  if (compute == nullptr)
    return ffi::Error::InvalidArgument("thin_product: this processor does not support " + std::string(level));
  const auto* bits = reinterpret_cast<const uint16_t*>(matrix.untyped_data());
  const ThinProduct product{rows.typed_data(), bits, out->typed_data(), n, in, outs};
  const int64_t together = rows_together(in);
  in_parallel(pool, (outs + together - 1) / together, [=](int64_t chunk) {
    compute(product, chunk * together, std::min(outs, (chunk + 1) * together));
  });
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
