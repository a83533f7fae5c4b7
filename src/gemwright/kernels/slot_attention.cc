// The XLA handler of attention over a cache: checks, parts of the slots for threads, the sum of the parts.
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "attend_slots.h"
#include "levels.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

AttendSlots* choose(std::string_view level) {
#if defined(GEMWRIGHT_X86)
  return variant(choose_level(level), attend_slots_portable, attend_slots_avx2, attend_slots_avx512);
#else
  return choose_level(level) == Level::kPortable ? attend_slots_portable : nullptr;
#endif
}

// One head: what its parts add up to, each weighted by how far its largest score is below the largest of all.
void join(const float* parts, int64_t count, int64_t stride, int64_t size, float* out) {
  float largest = -INFINITY, whole = 0;
  for (int64_t p = 0; p < count; ++p)
    if (parts[p * stride + 1] > 0) largest = std::max(largest, parts[p * stride]);
  std::fill(out, out + size, 0.0f);
  for (int64_t p = 0; p < count; ++p) {
    const float* part = parts + p * stride;
    if (!(part[1] > 0)) continue;
    const float weight = std::exp(part[0] - largest);
    whole += weight * part[1];
    for (int64_t i = 0; i < size; ++i) out[i] += weight * part[2 + i];
  }
  if (whole > 0)
    for (int64_t i = 0; i < size; ++i) out[i] /= whole;
}

ffi::Error slot_attention(ffi::ThreadPool pool, ffi::BufferR3<ffi::F32> queries, ffi::BufferR4<ffi::BF16> keys,
                          ffi::BufferR4<ffi::BF16> values, ffi::BufferR1<ffi::S32> at, ffi::BufferR2<ffi::S32> positions,
                          int64_t window, float cap, std::string_view level, ffi::ResultBufferR3<ffi::F32> out) {
  const int64_t rows = keys.dimensions()[0], slots = keys.dimensions()[1], groups = keys.dimensions()[2];
  const int64_t size = keys.dimensions()[3], all_heads = queries.dimensions()[1];
  const bool fits = queries.dimensions()[0] == rows && queries.dimensions()[2] == size && groups > 0 &&
                    all_heads % groups == 0 && values.dimensions() == keys.dimensions() &&
                    at.dimensions()[0] == rows && positions.dimensions()[0] == rows &&
                    positions.dimensions()[1] == slots && out->dimensions() == queries.dimensions();
  if (!fits) return ffi::Error::InvalidArgument("slot_attention: shapes do not fit");
  AttendSlots* attend = choose(level);
  if (attend == nullptr)
    return ffi::Error::InvalidArgument("slot_attention: this processor does not support " + std::string(level));
  const auto bits = [](const auto& buffer) { return reinterpret_cast<const uint16_t*>(buffer.untyped_data()); };
  const int64_t heads = all_heads / groups, stride = size + 2;
  const SlotAttention attention{queries.typed_data(), bits(keys), bits(values), at.typed_data(), positions.typed_data(),
                                slots, groups, heads, size, window, cap};
  const int64_t parts = (slots + kSlotsTogether - 1) / kSlotsTogether, chunks = rows * groups * parts;
  // (chunks, heads, 2 + size), and room for scores
  auto results = std::make_shared<std::vector<float>>(size_t(chunks * heads * (stride + kSlotsTogether)));
  float* scores = results->data() + chunks * heads * stride;
  in_parallel(pool, chunks, [=](int64_t chunk) {
    const int64_t first = chunk % parts * kSlotsTogether, place = chunk / parts;
    attend(attention, {place / groups, place % groups, first, std::min(slots, first + kSlotsTogether),
                       scores + chunk * heads * kSlotsTogether, results->data() + chunk * heads * stride});
  });
  for (int64_t head = 0; head < rows * all_heads; ++head) {
    const float* first = results->data() + (head / heads * parts * heads + head % heads) * stride;
    join(first, parts, heads * stride, size, out->typed_data() + head * size);
  }
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_slot_attention(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_slot_attention, slot_attention,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR3<ffi::F32>>()
                                  .Arg<ffi::BufferR4<ffi::BF16>>()
                                  .Arg<ffi::BufferR4<ffi::BF16>>()
                                  .Arg<ffi::BufferR1<ffi::S32>>()
                                  .Arg<ffi::BufferR2<ffi::S32>>()
                                  .Attr<int64_t>("window")
                                  .Attr<float>("cap")
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::BufferR3<ffi::F32>>());
