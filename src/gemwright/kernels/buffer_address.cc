// Tells where its argument lies in memory: tests ask whether weights reach a kernel without a copy.
#include <cstdint>
#include <cstring>

#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

ffi::Error buffer_address(ffi::AnyBuffer buffer, ffi::ResultBufferR1<ffi::U32> out) {
  if (out->element_count() != 2) return ffi::Error::InvalidArgument("buffer_address: gives two words");
  const uint64_t address = reinterpret_cast<uintptr_t>(buffer.untyped_data());
  const uint32_t words[2] = {uint32_t(address), uint32_t(address >> 32)};
  std::memcpy(out->untyped_data(), words, sizeof(words));
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_buffer_address(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_buffer_address, buffer_address,
                              ffi::Ffi::Bind().Arg<ffi::AnyBuffer>().Ret<ffi::BufferR1<ffi::U32>>());
