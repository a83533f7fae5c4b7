// The arithmetic of attention over a cache, compiled once for each instruction set from attend_slots.cc.
#pragma once

#include <cstdint>

enum class Cell { kBFloat16, kFloat, kInt8 };  // what a cache holds; int8 with a scale for each slot and head

// Letters as in core/cache.py: N tokens, B rows of the cache, S slots, G key heads, each with H / G query heads, K the
// size of a head.
struct SlotAttention {
  const float* queries;                    // (N, H, K), scaled
  const void *keys, *values;               // (B, S, G, K)
  const float *key_scales, *value_scales;  // (B, S, G), of int8
  const int32_t* at;                       // (N,), positions of the queries; negative in padding
  const int32_t* positions;                // (B, S), negative in an empty slot
  Cell cell;
  int64_t slots, groups, heads, size;  // heads of one group
  int64_t window;                      // keys seen, the query's own included; 0 for all
  float cap;                           // soft cap of the scores; 0 for none
};

constexpr int kSlotsTogether = 128, kTokensTogether = 16;

// What a part of one row's slots adds to some of its tokens, in one group: for each token and head the largest score,
// the sum of the exponentials of the scores less it, and the values weighted by these; (tokens, heads, 2 + K). What sees
// nothing has a sum of 0. A token's result does not depend on the tokens beside it.
struct SlotPart {
  int64_t row, group;
  int64_t first, last;              // slots, at most kSlotsTogether
  int64_t first_token, last_token;  // of the N, at most kTokensTogether
  float* out;
};

using AttendSlots = void(const SlotAttention& attention, const SlotPart& part);

AttendSlots attend_slots_portable, attend_slots_avx2, attend_slots_avx512;
