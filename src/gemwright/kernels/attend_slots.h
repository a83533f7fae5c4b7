// The arithmetic of attention over a cache, compiled once for each instruction set from attend_slots.cc.
#pragma once

#include <cstdint>

// One query a row, of several rows. Letters as in core/cache.py: B rows, S slots, G key heads, each with H / G query
// heads, K the size of a head.
struct SlotAttention {
  const float* queries;      // (B, H, K), scaled
  const uint16_t* keys;      // (B, S, G, K), bfloat16
  const uint16_t* values;    // (B, S, G, K), bfloat16
  const int32_t* at;         // (B,) of the queries; negative in an idle row
  const int32_t* positions;  // (B, S), negative in an empty slot
  int64_t slots, groups, heads, size;  // heads of one group
  int64_t window;            // keys seen, the query's own included; 0 for all
  float cap;                 // soft cap of the scores; 0 for none
};

constexpr int kSlotsTogether = 128;

// What a part of the slots adds to one group of one row: for each head the largest score, the sum of the
// exponentials of the scores less it, and the values weighted by these; (heads, 2 + K). A part that sees nothing has
// sums of 0.
struct SlotPart {
  int64_t row, group, first, last;  // at most kSlotsTogether slots
  float* scores;                    // room for (heads, kSlotsTogether)
  float* out;
};

using AttendSlots = void(const SlotAttention& attention, const SlotPart& part);

AttendSlots attend_slots_portable, attend_slots_avx2, attend_slots_avx512;
