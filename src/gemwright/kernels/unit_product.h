// Products of bfloat16 matrices by the matrix unit: C (M, N) = A (M, K) B (K, N). Compiled from unit_product.cc.
#pragma once

#include <cstdint>

#include "widened_tiles.h"

// A side of a block of C; blocks of rows, and stripes of as many columns, whose sums are kept at a time.
constexpr int64_t kUnitSide = 32, kUnitBlocks = 8, kUnitStripes = 4;

struct UnitProduct {
  const uint16_t* a;             // in the order of WidenedRows
  const uint16_t* b;             // (stripes, steps * 16 rows of pairs, 32) words of two, filled up with zeros
  uint16_t* c;
  int64_t rows, columns, steps;  // of 32 inputs

  int64_t blocks() const { return (rows + kUnitSide - 1) / kUnitSide; }
};

// Some columns of C for all rows. What is there of `b` begins with the stripe `first`.
using UnitStripes = void(const UnitProduct& product, int64_t first, int64_t last);

// All columns of some rows of C, at most kUnitBlocks from a block on.
using UnitRows = void(const UnitProduct& product, int64_t block);

// Puts a block of rows into order that are the columns of what `rows.rows` holds, (in, n) bfloat16. `room` has
// (in + 1) / 2 times 32 words.
using TurnedRows = void(const WidenedRows& rows, int64_t block, uint32_t* room);

UnitStripes unit_stripes_amx, unit_stripes_plain512;
UnitRows unit_rows_amx, unit_rows_plain512;
TurnedRows turned_rows_amx, turned_rows_plain512;
