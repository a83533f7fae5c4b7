// Products of bfloat16 matrices by the processor's own instruction for pairs of them: tiles of the result.
//
// Compiled from narrow_tiles.cc for processors that have AVX512_BF16.
#pragma once

#include <cstdint>

// A word is a pair of bfloat16 that are multiplied with another pair and added.
constexpr int64_t kColumnsTogether = 64, kPairsTogether = 1024, kRowsInTask = 48;

// C (M, N) = A (M, K) B (K, N), K made up to an even number.
struct NarrowProduct {
  const char* a;                  // the pair p of row m stands at a + m * a_row + p * a_pair
  int64_t a_row, a_pair;          // bytes
  const uint32_t* b;              // (N / 64 rounded up, pairs, 64) words
  uint16_t* c;                    // row m stands at c + m * c_row
  int64_t c_row, columns, pairs;  // the last two: N, K / 2
};

// Rows `first` to `last` of C, at most kRowsInTask.
using NarrowTiles = void(const NarrowProduct& product, int64_t first, int64_t last);

// Words of some columns of a (depth, width) matrix: pairs of elements below each other, zeros where there are none.
// `to` is (pairs, `room`) words, of which columns `first` to `first + room` are taken.
using PairRows = void(const uint16_t* matrix, int64_t depth, int64_t width, int64_t first, int64_t room, uint32_t* to);

// The same of the transposed of a (width, depth) matrix: pairs of elements beside each other.
using PairColumns = PairRows;

NarrowTiles narrow_tiles_avx512, narrow_tiles_plain512;
PairRows pair_rows_avx512, pair_rows_plain512;
PairColumns pair_columns_avx512, pair_columns_plain512;
