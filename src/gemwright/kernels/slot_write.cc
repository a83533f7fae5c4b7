// Puts tokens into their slots of a cache's arrays, in place: the results are the cache's own memory.
#include <cstdint>
#include <cstring>

#include "write_slots.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// One array: (B, S, ...) and the tokens' (N, ...).
bool write(ffi::AnyBuffer cache, ffi::AnyBuffer tokens, const int32_t* rows, const int32_t* at, ffi::AnyBuffer out) {
  const auto whole = cache.dimensions(), part = tokens.dimensions();
  bool fits = whole.size() >= 2 && part.size() == whole.size() - 1 && out.size_bytes() == cache.size_bytes() &&
              tokens.element_type() == cache.element_type();
  for (size_t i = 1; fits && i < part.size(); ++i) fits = part[i] == whole[i + 1];
  if (!fits) return false;
  const int64_t slots = whole[1], count = part[0];
  const int64_t bytes = count > 0 ? int64_t(tokens.size_bytes()) / count : 0;
  auto* to = static_cast<char*>(out.untyped_data());
  // XLA copies the cache beforehand where somebody else still needs it.
  if (to != cache.untyped_data()) std::memcpy(to, cache.untyped_data(), cache.size_bytes());
  return write_slots({to, static_cast<const char*>(tokens.untyped_data()), rows, at, whole[0], slots, count, bytes});
}

// Arguments after rows and positions: the arrays of the cache, then as many of the tokens.
ffi::Error slot_write(ffi::BufferR1<ffi::S32> rows, ffi::BufferR1<ffi::S32> at, ffi::RemainingArgs arrays,
                      ffi::RemainingRets results) {
  const size_t count = results.size();
  bool fits = arrays.size() == 2 * count && rows.dimensions()[0] == at.dimensions()[0];
  for (size_t i = 0; fits && i < count; ++i) {
    auto cache = arrays.get<ffi::AnyBuffer>(i), tokens = arrays.get<ffi::AnyBuffer>(count + i);
    auto out = results.get<ffi::AnyBuffer>(i);
    fits = cache.has_value() && tokens.has_value() && out.has_value() && tokens->dimensions().size() > 0 &&
           tokens->dimensions()[0] == at.dimensions()[0] &&
           write(*cache, *tokens, rows.typed_data(), at.typed_data(), **out);
  }
  return fits ? ffi::Error::Success() : ffi::Error::InvalidArgument("slot_write: shapes or rows do not fit");
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_slot_write(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_slot_write, slot_write,
                              ffi::Ffi::Bind()
                                  .Arg<ffi::BufferR1<ffi::S32>>()
                                  .Arg<ffi::BufferR1<ffi::S32>>()
                                  .RemainingArgs()
                                  .RemainingRets());
