// The XLA handlers of gelu(gate) * up and its derivatives: checks, and values for threads.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <type_traits>

#include "gate_values.h"
#include "levels.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

constexpr int64_t kValuesTogether = 1 << 15;

bool alike(const ffi::AnyBuffer& one, const ffi::AnyBuffer& other) {
  return one.element_type() == other.element_type() && one.dimensions() == other.dimensions();
}

ffi::Error check(std::string_view level, bool fits, bool known) {
  if (!fits)
    return ffi::Error::InvalidArgument("gated_values: expected arrays of one shape, all bfloat16 or all float32");
  if (!known)
    return ffi::Error::InvalidArgument("gated_values: this processor does not support " + std::string(level));
  return ffi::Error::Success();
}

bool floats(const ffi::AnyBuffer& buffer) {
  return buffer.element_type() == ffi::F32 || buffer.element_type() == ffi::BF16;
}

// Values from the i-th on of an array.
template <class Pointer>
Pointer* from(Pointer* array, int64_t i, int64_t bytes) {
  using Byte = std::conditional_t<std::is_const_v<Pointer>, const char, char>;
  return static_cast<Byte*>(array) + i * bytes;
}

// Calls compute(first, some of the values) for all.
template <class Compute>
void in_chunks(ffi::ThreadPool& pool, const ffi::AnyBuffer& gates, const ffi::AnyBuffer& ups, Compute compute) {
  const bool narrow = gates.element_type() == ffi::BF16;
  const int64_t count = int64_t(gates.element_count()), bytes = narrow ? 2 : 4;
  const void *gate = gates.untyped_data(), *up = ups.untyped_data();
  in_parallel(pool, (count + kValuesTogether - 1) / kValuesTogether, [=](int64_t chunk) {
    const int64_t first = chunk * kValuesTogether, some = std::min(kValuesTogether, count - first);
    compute(first, bytes, GateValues{from(gate, first, bytes), from(up, first, bytes), narrow, some});
  });
}

ffi::Error gated_values(ffi::ThreadPool pool, ffi::AnyBuffer gates, ffi::AnyBuffer ups, std::string_view level,
                        ffi::Result<ffi::AnyBuffer> out) {
  Gate* gate = VARIANT_OF(gate_values, level);
  const ffi::Error error = check(level, floats(gates) && alike(gates, ups) && alike(gates, *out), gate != nullptr);
  if (error.failure()) return error;
  void* to = out->untyped_data();
  in_chunks(pool, gates, ups, [=](int64_t first, int64_t bytes, const GateValues& some) {
    gate(some, from(to, first, bytes));
  });
  return ffi::Error::Success();
}

ffi::Error gated_values_back(ffi::ThreadPool pool, ffi::AnyBuffer gates, ffi::AnyBuffer ups, ffi::AnyBuffer gradient,
                             std::string_view level, ffi::Result<ffi::AnyBuffer> gate_gradient,
                             ffi::Result<ffi::AnyBuffer> up_gradient) {
  GateBack* gate = VARIANT_OF(gate_values_back, level);
  const bool fits = floats(gates) && alike(gates, ups) && alike(gates, gradient) && alike(gates, *gate_gradient) &&
                    alike(gates, *up_gradient);
  const ffi::Error error = check(level, fits, gate != nullptr);
  if (error.failure()) return error;
  const void* of = gradient.untyped_data();
  void *to_gates = gate_gradient->untyped_data(), *to_ups = up_gradient->untyped_data();
  in_chunks(pool, gates, ups, [=](int64_t first, int64_t bytes, const GateValues& some) {
    gate(some, from(of, first, bytes), from(to_gates, first, bytes), from(to_ups, first, bytes));
  });
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_gated_values(XLA_FFI_CallFrame* frame);
extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_gated_values_back(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_gated_values, gated_values,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::AnyBuffer>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_gated_values_back, gated_values_back,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
