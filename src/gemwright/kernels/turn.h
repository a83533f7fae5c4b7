// Turning squares of 16 by 16 words in registers, for AVX-512.
#pragma once

#include "vectors.h"

namespace {

// Each with its other half's: the lanes of `one` and `other` in turn, from the lower half of both or from the upper.
inline Words dealt(Words one, Words other, bool upper) {
  Words order = {};
  for (uint32_t lane = 0; lane < kLanes; ++lane) order[lane] = lane / 2 + (lane % 2) * kLanes + (upper ? kLanes / 2 : 0);
  return (Words)_mm512_permutex2var_epi32((__m512i)one, (__m512i)order, (__m512i)other);
}

// A square of words to its transposed; rows are so many bytes apart. Four times dealt is turned.
inline void turn(const void* from, int64_t from_row, void* to, int64_t to_row) {
  Words rows[kLanes], after[kLanes];
  for (int i = 0; i < kLanes; ++i) std::memcpy(&rows[i], static_cast<const char*>(from) + i * from_row, sizeof rows[i]);
  for (int times = 0; times < 4; ++times) {
    for (int i = 0; i < kLanes / 2; ++i) {
      after[2 * i] = dealt(rows[i], rows[i + kLanes / 2], false);
      after[2 * i + 1] = dealt(rows[i], rows[i + kLanes / 2], true);
    }
    std::memcpy(rows, after, sizeof rows);
  }
  for (int i = 0; i < kLanes; ++i) std::memcpy(static_cast<char*>(to) + i * to_row, &rows[i], sizeof rows[i]);
}

}  // namespace
