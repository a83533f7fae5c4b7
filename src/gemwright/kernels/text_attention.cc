// The XLA handlers of attention among the tokens of one call: checks, blocks of queries for threads, sums of parts.
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>

#include "attend_text.h"
#include "levels.h"
#include "parallel.h"
#include "room.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

constexpr int64_t kWidestVector = 16;
// Threads that a gradient is divided for, whatever their number: it does not depend on the machine.
constexpr int64_t kParts = 16;
// Floats of these parts of the keys' gradient, and of the values', at most; one part a text and group there must be.
constexpr int64_t kMostInParts = 1 << 26;

using Floats = std::shared_ptr<float[]>;

float widened(const void* from, bool narrow, int64_t at) {
  if (!narrow) return static_cast<const float*>(from)[at];
  const uint32_t word = uint32_t{static_cast<const uint16_t*>(from)[at]} << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

void put(void* to, bool narrow, int64_t at, float value) {
  if (!narrow) {
    static_cast<float*>(to)[at] = value;
    return;
  }
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  static_cast<uint16_t*>(to)[at] = uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);  // ties to even
}

// (B, T, G, K) as (B, G, T, P) of float32.
Floats by_group(ffi::ThreadPool& pool, const TextAttention& a, int64_t texts, const void* from) {
  Floats rows = room_of<float>(texts * a.groups * a.tokens * a.padded);
  in_parallel(pool, texts * a.groups, [=](int64_t index) {
    float* to = rows.get() + index * a.tokens * a.padded;
    for (int64_t token = 0; token < a.tokens; ++token, to += a.padded) {
      const int64_t at = ((index / a.groups * a.tokens + token) * a.groups + index % a.groups) * a.size;
      for (int64_t i = 0; i < a.size; ++i) to[i] = widened(from, a.narrow, at + i);
      std::fill(to + a.size, to + a.padded, 0.0f);
    }
  });
  return rows;
}

// Keys and values by group, for as long as a call computes with them.
struct Widened {
  Floats keys, values;

  Widened(ffi::ThreadPool& pool, TextAttention& a, int64_t texts, const ffi::AnyBuffer& from_keys,
          const ffi::AnyBuffer& from_values)
      : keys(by_group(pool, a, texts, from_keys.untyped_data())),
        values(by_group(pool, a, texts, from_values.untyped_data())) {
    a.keys = keys.get();
    a.values = values.get();
  }
};

struct Shape {
  int64_t texts, blocks;  // blocks of the rows of one text and group
};

TextRows rows_of(const TextAttention& a, int64_t text_and_group, int64_t block) {
  const int64_t first = block * kRowsTogether;
  return {text_and_group / a.groups, text_and_group % a.groups, first,
          std::min(a.tokens * a.heads, first + kRowsTogether)};
}

void attend_all(ffi::ThreadPool& pool, const TextAttention& a, Shape shape, AttendText* attend, TextResult result) {
  in_parallel(pool, shape.texts * a.groups * shape.blocks, [=](int64_t index) {
    const Floats room = room_of<float>(attend_text_room(a.padded));
    // The last blocks see most: they are taken first.
    const TextRows rows = rows_of(a, index % (shape.texts * a.groups), shape.blocks - 1 - index / (shape.texts * a.groups));
    attend(a, rows, result, room.get());
  });
}

// Adds up the parts of one text and group into (B, T, G, K).
void gather(const TextAttention& a, int64_t text_and_group, int64_t parts, const float* sums, void* out) {
  const int64_t part_size = a.tokens * a.padded;
  for (int64_t token = 0; token < a.tokens; ++token) {
    const int64_t text = text_and_group / a.groups, group = text_and_group % a.groups;
    const int64_t to = ((text * a.tokens + token) * a.groups + group) * a.size;
    for (int64_t i = 0; i < a.size; ++i) {
      float sum = 0;
      for (int64_t part = 0; part < parts; ++part) sum += sums[part * part_size + token * a.padded + i];
      put(out, a.narrow, to + i, sum);
    }
  }
}

// Parts of each text's and group's gradient, which follow from the shapes alone.
int64_t parts_of(Shape shape, int64_t each, int64_t size) {
  const int64_t wanted = std::min((kParts + each - 1) / each, kMostInParts / std::max(each * size, int64_t{1}));
  return std::max(std::min(wanted, shape.blocks), int64_t{1});
}

void attend_all_back(ffi::ThreadPool& pool, const TextAttention& a, Shape shape, AttendTextBack* attend,
                     TextGradient gradient, void* key_gradient, void* value_gradient) {
  const int64_t each = shape.texts * a.groups, size = a.tokens * a.padded;
  if (each == 0) return;
  const int64_t parts = parts_of(shape, each, size);
  const Floats to_keys = room_of<float>(each * parts * size), to_values = room_of<float>(each * parts * size);
  in_parallel(pool, each * parts, [=](int64_t index) {
    const Floats room = room_of<float>(attend_text_room(a.padded));
    TextGradient one = gradient;
    one.to_keys = to_keys.get() + index * size;
    one.to_values = to_values.get() + index * size;
    std::fill(one.to_keys, one.to_keys + size, 0.0f);
    std::fill(one.to_values, one.to_values + size, 0.0f);
    for (int64_t block = index % parts; block < shape.blocks; block += parts)
      attend(a, rows_of(a, index / parts, block), one, room.get());
  });
  in_parallel(pool, 2 * each, [=](int64_t index) {
    const bool keys = index < each;
    const float* sums = (keys ? to_keys : to_values).get() + index % each * parts * size;
    gather(a, index % each, parts, sums, keys ? key_gradient : value_gradient);
  });
}

// ----------------------------------------------------------------------------------------- handlers

bool is(const ffi::AnyBuffer& buffer, ffi::DataType type, const ffi::AnyBuffer& like) {
  return buffer.element_type() == type && buffer.dimensions() == like.dimensions();
}

struct Call {
  TextAttention attention;
  Shape shape;
  ffi::Error error;
};

Call call_of(const ffi::AnyBuffer& queries, const ffi::AnyBuffer& keys, const ffi::AnyBuffer& values,
             const ffi::BufferR2<ffi::S32>& positions, const ffi::BufferR2<ffi::S32>& segments, int64_t window,
             float cap) {
  const ffi::DataType type = queries.element_type();
  const auto sizes = queries.dimensions(), of_keys = keys.dimensions();
  const bool floats = type == ffi::F32 || type == ffi::BF16;
  const bool fits = floats && sizes.size() == 4 && of_keys.size() == 4 && keys.element_type() == type &&
                    is(values, type, keys) && of_keys[0] == sizes[0] && of_keys[1] == sizes[1] && of_keys[2] > 0 &&
                    sizes[2] % of_keys[2] == 0 && of_keys[3] == sizes[3] && positions.dimensions()[0] == sizes[0] &&
                    positions.dimensions()[1] == sizes[1] && segments.dimensions() == positions.dimensions();
  if (!fits)
    return {{}, {}, ffi::Error::InvalidArgument(
                        "text_attention: expected (B, T, H, K) queries, (B, T, G, K) keys and values of one dtype, "
                        "bfloat16 or float32, and (B, T) positions and segments")};
  TextAttention a{queries.untyped_data(), nullptr, nullptr, positions.typed_data(), segments.typed_data(),
                  type == ffi::BF16, sizes[1], of_keys[2], sizes[2] / of_keys[2], sizes[3], 0, window, cap};
  a.padded = (a.size + kWidestVector - 1) / kWidestVector * kWidestVector;
  return {a, {sizes[0], (a.tokens * a.heads + kRowsTogether - 1) / kRowsTogether}, ffi::Error::Success()};
}

ffi::Error unsupported(std::string_view level) {
  return ffi::Error::InvalidArgument("text_attention: this processor does not support " + std::string(level));
}

ffi::Error text_attention(ffi::ThreadPool pool, ffi::AnyBuffer queries, ffi::AnyBuffer keys, ffi::AnyBuffer values,
                          ffi::BufferR2<ffi::S32> positions, ffi::BufferR2<ffi::S32> segments, int64_t window,
                          float cap, std::string_view level, ffi::Result<ffi::AnyBuffer> out,
                          ffi::ResultBufferR3<ffi::F32> log_divisors) {
  Call call = call_of(queries, keys, values, positions, segments, window, cap);
  if (call.error.failure()) return call.error;
  AttendText* attend = VARIANT_OF(attend_text, level);
  if (attend == nullptr) return unsupported(level);
  TextAttention& a = call.attention;
  const Widened held(pool, a, call.shape.texts, keys, values);
  attend_all(pool, a, call.shape, attend, {out->untyped_data(), log_divisors->typed_data()});
  return ffi::Error::Success();
}

ffi::Error text_attention_back(ffi::ThreadPool pool, ffi::AnyBuffer queries, ffi::AnyBuffer keys,
                               ffi::AnyBuffer values, ffi::BufferR2<ffi::S32> positions,
                               ffi::BufferR2<ffi::S32> segments, ffi::AnyBuffer out,
                               ffi::BufferR3<ffi::F32> log_divisors, ffi::AnyBuffer out_gradient, int64_t window,
                               float cap, std::string_view level, ffi::Result<ffi::AnyBuffer> query_gradient,
                               ffi::Result<ffi::AnyBuffer> key_gradient, ffi::Result<ffi::AnyBuffer> value_gradient) {
  Call call = call_of(queries, keys, values, positions, segments, window, cap);
  if (call.error.failure()) return call.error;
  if (!is(out, queries.element_type(), queries) || !is(out_gradient, queries.element_type(), queries))
    return ffi::Error::InvalidArgument("text_attention_back: expected results and gradients like the queries");
  AttendTextBack* attend = VARIANT_OF(attend_text_back, level);
  if (attend == nullptr) return unsupported(level);
  TextAttention& a = call.attention;
  const Widened held(pool, a, call.shape.texts, keys, values);
  const TextGradient gradient{out.untyped_data(), out_gradient.untyped_data(), log_divisors.typed_data(),
                              query_gradient->untyped_data(), nullptr, nullptr};
  attend_all_back(pool, a, call.shape, attend, gradient, key_gradient->untyped_data(), value_gradient->untyped_data());
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_text_attention(XLA_FFI_CallFrame* frame);
extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_text_attention_back(
    XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_text_attention, text_attention,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::BufferR2<ffi::S32>>()
                                  .Arg<ffi::BufferR2<ffi::S32>>()
                                  .Attr<int64_t>("window")
                                  .Attr<float>("cap")
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::BufferR3<ffi::F32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_text_attention_back, text_attention_back,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::BufferR2<ffi::S32>>()
                                  .Arg<ffi::BufferR2<ffi::S32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::BufferR3<ffi::F32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Attr<int64_t>("window")
                                  .Attr<float>("cap")
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>()
                                  .Ret<ffi::AnyBuffer>());
