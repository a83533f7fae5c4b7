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

// Adds a part of one head to the sum so far, each weighted by how far its largest score is below the larger.
void add(const float* part, int64_t size, float* sum) {
  if (!(part[1] > 0)) return;
  const float largest = sum[1] > 0 ? std::max(sum[0], part[0]) : part[0];
  const float old = sum[1] > 0 ? std::exp(sum[0] - largest) : 0.0f, fresh = std::exp(part[0] - largest);
  for (int64_t i = 1; i < size + 2; ++i) sum[i] = old * sum[i] + fresh * part[i];
  sum[0] = largest;
}

// Tokens that stand beside each other and read the same row of the cache.
struct Run {
  int64_t row, first, last;
};

std::vector<Run> runs_of(const int32_t* rows, const int32_t* at, int64_t tokens) {
  std::vector<Run> runs;
  for (int64_t token = 0; token < tokens; ++token) {
    if (at[token] < 0) continue;
    const bool goes_on = !runs.empty() && runs.back().last == token && runs.back().row == rows[token] &&
                         token - runs.back().first < kTokensTogether;
    if (goes_on) ++runs.back().last;
    else runs.push_back({rows[token], token, token + 1});
  }
  return runs;
}

// One run in one group. Parts are added in order whoever computes them, so that the number of tokens changes nothing.
class Piece {
 public:
  Piece(const SlotAttention& a, AttendSlots* attend, Run run, int64_t group)
      : a_(a), attend_(attend), run_(run), group_(group) {}

  int64_t queries() const { return (run_.last - run_.first) * a_.heads; }
  int64_t room() const { return queries() * (a_.size + 2); }

  void compute(int64_t part, float* out) const {
    const int64_t first = part * kSlotsTogether, last = std::min(a_.slots, first + kSlotsTogether);
    attend_(a_, {run_.row, group_, first, last, run_.first, run_.last, out});
  }

  void add_to(const float* part, float* sums) const {
    for (int64_t q = 0; q < queries(); ++q) add(part + q * (a_.size + 2), a_.size, sums + q * (a_.size + 2));
  }

  void write(const float* sums, float* out) const {
    for (int64_t q = 0; q < queries(); ++q) {
      const float* sum = sums + q * (a_.size + 2);
      const int64_t token = run_.first + q / a_.heads, head = group_ * a_.heads + q % a_.heads;
      float* to = out + (token * a_.groups * a_.heads + head) * a_.size;
      for (int64_t i = 0; i < a_.size; ++i) to[i] = sum[1] > 0 ? sum[2 + i] / sum[1] : 0.0f;
    }
  }

 private:
  SlotAttention a_;
  AttendSlots* attend_;
  Run run_;
  int64_t group_;
};

void attend_all(ffi::ThreadPool& pool, const SlotAttention& a, AttendSlots* attend, const int32_t* rows, int64_t tokens,
                float* out) {
  auto pieces = std::make_shared<std::vector<Piece>>();
  for (const Run& run : runs_of(rows, a.at, tokens))
    for (int64_t group = 0; group < a.groups; ++group) pieces->emplace_back(a, attend, run, group);
  const int64_t parts = (a.slots + kSlotsTogether - 1) / kSlotsTogether, count = int64_t(pieces->size());
  std::fill(out, out + tokens * a.groups * a.heads * a.size, 0.0f);
  if (count >= 2 * pool.num_threads()) {  // enough for all threads: each adds up its own parts
    return in_parallel(pool, count, [=](int64_t index) {
      const Piece& piece = (*pieces)[size_t(index)];
      std::vector<float> sums(size_t(piece.room())), one(size_t(piece.room()));
      for (int64_t part = 0; part < parts; ++part) {
        piece.compute(part, one.data());
        piece.add_to(one.data(), sums.data());
      }
      piece.write(sums.data(), out);
    });
  }
  int64_t room = 0;
  for (const Piece& piece : *pieces) room = std::max(room, piece.room());
  const std::shared_ptr<float[]> results(new float[size_t(count * parts * room)]);
  in_parallel(pool, count * parts, [=](int64_t chunk) {
    (*pieces)[size_t(chunk / parts)].compute(chunk % parts, results.get() + chunk * room);
  });
  in_parallel(pool, count, [=](int64_t index) {
    const Piece& piece = (*pieces)[size_t(index)];
    std::vector<float> sums(size_t(piece.room()));
    for (int64_t part = 0; part < parts; ++part)
      piece.add_to(results.get() + (index * parts + part) * room, sums.data());
    piece.write(sums.data(), out);
  });
}

bool cell_of(ffi::DataType type, Cell* cell) {
  if (type == ffi::BF16) return *cell = Cell::kBFloat16, true;
  if (type == ffi::F32) return *cell = Cell::kFloat, true;
  if (type == ffi::S8) return *cell = Cell::kInt8, true;
  return false;
}

ffi::Error slot_attention(ffi::ThreadPool pool, ffi::BufferR3<ffi::F32> queries, ffi::AnyBuffer keys,
                          ffi::AnyBuffer values, ffi::Buffer<ffi::F32> key_scales, ffi::Buffer<ffi::F32> value_scales,
                          ffi::BufferR1<ffi::S32> rows, ffi::BufferR1<ffi::S32> at, ffi::BufferR2<ffi::S32> positions,
                          int64_t window, float cap, std::string_view level, ffi::ResultBufferR3<ffi::F32> out) {
  Cell cell;
  if (keys.dimensions().size() != 4 || !cell_of(keys.element_type(), &cell))
    return ffi::Error::InvalidArgument("slot_attention: expected (B, S, G, K) of bfloat16, float32 or int8");
  const int64_t tokens = queries.dimensions()[0], all_heads = queries.dimensions()[1];
  const int64_t slots = keys.dimensions()[1], groups = keys.dimensions()[2], size = keys.dimensions()[3];
  const size_t scales = cell == Cell::kInt8 ? positions.element_count() * size_t(groups) : 0;
  const bool fits = queries.dimensions()[2] == size && groups > 0 && all_heads % groups == 0 &&
                    values.dimensions() == keys.dimensions() && values.element_type() == keys.element_type() &&
                    key_scales.element_count() == scales && value_scales.element_count() == scales &&
                    rows.dimensions()[0] == tokens && at.dimensions()[0] == tokens &&
                    positions.dimensions()[0] == keys.dimensions()[0] && positions.dimensions()[1] == slots &&
                    out->dimensions() == queries.dimensions();
  if (!fits) return ffi::Error::InvalidArgument("slot_attention: shapes do not fit");
  for (int64_t token = 0; token < tokens; ++token)
    if (rows.typed_data()[token] < 0 || rows.typed_data()[token] >= keys.dimensions()[0])
      return ffi::Error::InvalidArgument("slot_attention: a token of no row of the cache");
  AttendSlots* attend = VARIANT_OF(attend_slots, level);
  if (attend == nullptr)
    return ffi::Error::InvalidArgument("slot_attention: this processor does not support " + std::string(level));
  const SlotAttention attention{queries.typed_data(),      keys.untyped_data(), values.untyped_data(),
                                key_scales.typed_data(),   value_scales.typed_data(),
                                at.typed_data(),           positions.typed_data(),
                                cell, slots, groups, all_heads / groups, size, window, cap};
  attend_all(pool, attention, attend, rows.typed_data(), tokens, out->typed_data());
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_slot_attention(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_slot_attention, slot_attention,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR3<ffi::F32>>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::AnyBuffer>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::Buffer<ffi::F32>>()
                                  .Arg<ffi::BufferR1<ffi::S32>>()
                                  .Arg<ffi::BufferR1<ffi::S32>>()
                                  .Arg<ffi::BufferR2<ffi::S32>>()
                                  .Attr<int64_t>("window")
                                  .Attr<float>("cap")
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::BufferR3<ffi::F32>>());
