// The packed product with many rows, by the matrix unit: weights are widened to bfloat16 a few at a time and meet rows
// of bfloat16, which are not rounded to 8 bits. Compiled from widened_tiles.cc and widened_rows.cc.
#pragma once

#include <cstdint>

#include "packed_tiles.h"

// Rows in a block and groups in a part. All blocks of a part stand before the next part: (parts, blocks, groups of the
// part, 32 rows, 32 inputs), filled up with zeros.
constexpr int64_t kBlockRows = 32, kPartGroups = 16;

// Tiles that are widened together. Sums of so many with 512 rows stay in the second cache beside a part of these rows.
constexpr int64_t kPanelTiles = 16;

struct WidenedRows {
  const void* rows;  // (n, in), float or bfloat16
  bool narrow;       // whether rows are bfloat16
  uint16_t* out;     // in the order above
  int64_t n, in, groups;

  int64_t blocks() const { return (n + kBlockRows - 1) / kBlockRows; }
  int64_t size() const { return blocks() * groups * kBlockRows * kGroup; }
  // Where a block's rows of a group begin in `out`.
  int64_t at(int64_t block, int64_t group) const {
    const int64_t first = group / kPartGroups * kPartGroups;
    const int64_t together = groups - first < kPartGroups ? groups - first : kPartGroups;
    return (first * blocks() + block * together + group - first) * kBlockRows * kGroup;
  }
};

// Puts a block of rows into order.
using WidenRows = void(const WidenedRows& rows, int64_t block);

WidenRows widen_rows_amx, widen_rows_plain512;
PackedTiles widened_tiles4_amx, widened_tiles8_amx;
