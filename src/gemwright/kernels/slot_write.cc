// Puts one token a row into its slot of a cache, in place: the result is the cache's own memory.
#include <cstdint>
#include <cstring>

#include "write_slots.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

ffi::Error slot_write(ffi::BufferR4<ffi::BF16> cache, ffi::BufferR3<ffi::BF16> tokens, ffi::BufferR1<ffi::S32> at,
                      ffi::ResultBufferR4<ffi::BF16> out) {
  const int64_t rows = cache.dimensions()[0], slots = cache.dimensions()[1];
  const int64_t bytes = 2 * cache.dimensions()[2] * cache.dimensions()[3];
  const bool fits = slots > 0 && tokens.dimensions()[0] == rows && tokens.dimensions()[1] == cache.dimensions()[2] &&
                    tokens.dimensions()[2] == cache.dimensions()[3] && at.dimensions()[0] == rows &&
                    out->dimensions() == cache.dimensions();
  if (!fits) return ffi::Error::InvalidArgument("slot_write: shapes do not fit");
  auto* to = static_cast<char*>(out->untyped_data());
  const auto* from = static_cast<const char*>(tokens.untyped_data());
  // XLA copies the cache beforehand where somebody else still needs it.
  if (to != cache.untyped_data()) std::memcpy(to, cache.untyped_data(), size_t(rows * slots * bytes));
  write_slots({to, from, at.typed_data(), rows, slots, bytes});
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_slot_write(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_slot_write, slot_write,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::BufferR4<ffi::BF16>>()
                                  .Arg<ffi::BufferR3<ffi::BF16>>()
                                  .Arg<ffi::BufferR1<ffi::S32>>()
                                  .Ret<ffi::BufferR4<ffi::BF16>>());
