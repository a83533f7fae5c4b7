// The XLA handler of the gated recurrence: checks, choice of the instruction set, channels for threads.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "levels.h"
#include "parallel.h"
#include "recurrent_channels.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

constexpr int64_t kChannelsTogether = 128;  // of a block, that a thread takes at once

ffi::Error gated_recurrence(ffi::ThreadPool pool, ffi::BufferR3<ffi::F32> x, ffi::AnyBuffer input_gate,
                            ffi::AnyBuffer decay_gate, ffi::BufferR2<ffi::F32> input_bias,
                            ffi::BufferR2<ffi::F32> decay_bias, ffi::BufferR1<ffi::F32> rate,
                            ffi::BufferR2<ffi::S32> places, ffi::BufferR2<ffi::F32> start, std::string_view level,
                            ffi::ResultBufferR3<ffi::F32> out) {
  const int64_t rows = x.dimensions()[0], tokens = x.dimensions()[1], width = x.dimensions()[2];
  const int64_t blocks = input_bias.dimensions()[0], size = input_bias.dimensions()[1];
  const auto gate = input_gate.dimensions();
  const bool narrow = input_gate.element_type() == ffi::BF16;
  const bool fits = (narrow || input_gate.element_type() == ffi::F32) &&
                    decay_gate.element_type() == input_gate.element_type() && gate.size() == 3 && gate[0] == blocks &&
                    gate[1] == size && gate[2] == size && decay_gate.dimensions() == gate && width == blocks * size &&
                    decay_bias.dimensions() == input_bias.dimensions() && rate.dimensions()[0] == width &&
                    places.dimensions()[0] == rows && places.dimensions()[1] == tokens &&
                    start.dimensions()[0] == rows && start.dimensions()[1] == width && out->dimensions() == x.dimensions();
  if (!fits) return ffi::Error::InvalidArgument("gated_recurrence: shapes or types do not fit");
  RecurrentChannels* compute = VARIANT_OF(recurrent_channels, level);
  if (compute == nullptr)
    return ffi::Error::InvalidArgument("gated_recurrence: this processor does not support " + std::string(level));
  const GatedRecurrence g{x.typed_data(),          input_gate.untyped_data(), decay_gate.untyped_data(),
                          input_bias.typed_data(), decay_bias.typed_data(),   rate.typed_data(),
                          places.typed_data(),     start.typed_data(),        out->typed_data(),
                          narrow, rows, tokens, blocks, size};
  const int64_t parts = (size + kChannelsTogether - 1) / kChannelsTogether;
  in_parallel(pool, blocks * parts, [=](int64_t chunk) {
    const int64_t first = chunk % parts * kChannelsTogether;
    compute(g, chunk / parts, first, std::min(size, first + kChannelsTogether));
  });
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_gated_recurrence(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_gated_recurrence, gated_recurrence,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR3<ffi::F32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::BufferR2<ffi::F32>>()
                                  .Arg<ffi::BufferR2<ffi::F32>>()
                                  .Arg<ffi::BufferR1<ffi::F32>>()
                                  .Arg<ffi::BufferR2<ffi::S32>>()
                                  .Arg<ffi::BufferR2<ffi::F32>>()
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::BufferR3<ffi::F32>>());
