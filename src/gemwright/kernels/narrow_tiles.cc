// Tiles of a product of bfloat16 matrices, 6 rows by 64 columns, whose sums stay in registers. See narrow_tiles.h.
//
// CMake compiles this file under the names given by NARROW_TILES, PAIR_ROWS and PAIR_COLUMNS.
#include "narrow_tiles.h"

#include "turn.h"
#include "vectors.h"

namespace {

constexpr int kHigh = 6, kWide = int(kColumnsTogether) / kLanes;

inline Floats sum_of_pairs(Floats sums, uint32_t left, const uint32_t* right) {
  const __m512i one = _mm512_set1_epi32(int(left));
  __m512i other;
  std::memcpy(&other, right, sizeof other);
  return (Floats)_mm512_dpbf16_ps((__m512)sums, (__m512bh)one, (__m512bh)other);
}

inline uint32_t word(const char* at) {
  uint32_t value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

// Adds pairs `first` to `last` to sums (kRows, 64) of rows from `row` on.
template <int kRows>
void tile(const NarrowProduct& p, int64_t row, const uint32_t* b, int64_t first, int64_t last, float* sums) {
  Floats held[kRows][kWide];
  for (int i = 0; i < kRows; ++i)
    for (int w = 0; w < kWide; ++w)
      held[i][w] = first == 0 ? Floats{} : load(sums + i * kColumnsTogether + w * kLanes);
  const char* a = p.a + row * p.a_row + first * p.a_pair;
  for (int64_t pair = first; pair < last; ++pair, a += p.a_pair) {
    const uint32_t* right = b + pair * kColumnsTogether;
    for (int i = 0; i < kRows; ++i) {
      const uint32_t left = word(a + i * p.a_row);
      for (int w = 0; w < kWide; ++w) held[i][w] = sum_of_pairs(held[i][w], left, right + w * kLanes);
    }
  }
  for (int i = 0; i < kRows; ++i)
    for (int w = 0; w < kWide; ++w) store(sums + i * kColumnsTogether + w * kLanes, held[i][w]);
}

// Sums to bfloat16, in columns from `column` on.
void write(const NarrowProduct& p, int64_t row, int64_t rows, int64_t column, const float* sums) {
  const int64_t wide = p.columns - column < kColumnsTogether ? p.columns - column : kColumnsTogether;
  for (int64_t i = 0; i < rows; ++i, sums += kColumnsTogether) {
    uint16_t rounded[kColumnsTogether], *to = p.c + (row + i) * p.c_row + column;
    uint16_t* out = wide == kColumnsTogether ? to : rounded;
    for (int w = 0; w < kWide; ++w) store(out + w * kLanes, load(sums + w * kLanes));
    if (out == rounded) std::memcpy(to, rounded, size_t(wide) * sizeof *to);
  }
}

// Some columns from `k` on, one word at a time.
void pair_rest(const uint16_t* matrix, int64_t depth, int64_t column, int64_t last, int64_t k, int64_t room,
               uint32_t* to) {
  for (; k < depth; k += 2)
    for (int64_t i = column; i < last; ++i) {
      const uint16_t* at = matrix + i * depth + k;
      to[k / 2 * room + i] = k + 1 < depth ? at[0] | uint32_t{at[1]} << 16 : at[0];
    }
}

}  // namespace

void NARROW_TILES(const NarrowProduct& p, int64_t first, int64_t last) {
  alignas(64) float sums[kRowsInTask * kColumnsTogether];
  for (int64_t column = 0; column < p.columns; column += kColumnsTogether) {
    const uint32_t* b = p.b + column * p.pairs;
    for (int64_t pair = 0; pair < p.pairs; pair += kPairsTogether) {
      const int64_t end = pair + kPairsTogether < p.pairs ? pair + kPairsTogether : p.pairs;
      int64_t row = first;
      for (; row + kHigh <= last; row += kHigh)
        tile<kHigh>(p, row, b, pair, end, sums + (row - first) * kColumnsTogether);
      for (; row < last; ++row) tile<1>(p, row, b, pair, end, sums + (row - first) * kColumnsTogether);
    }
    write(p, first, last - first, column, sums);
  }
}

void PAIR_ROWS(const uint16_t* matrix, int64_t depth, int64_t width, int64_t first, int64_t room, uint32_t* to) {
  const int64_t count = width - first < room ? width - first : room;
  for (int64_t k = 0; k < depth; k += 2, to += room) {
    const uint16_t *upper = matrix + k * width + first, *lower = upper + width;
    if (k + 1 < depth)
      for (int64_t i = 0; i < count; ++i) to[i] = upper[i] | uint32_t{lower[i]} << 16;
    else
      for (int64_t i = 0; i < count; ++i) to[i] = upper[i];
    for (int64_t i = count; i < room; ++i) to[i] = 0;
  }
}

void PAIR_COLUMNS(const uint16_t* matrix, int64_t depth, int64_t width, int64_t first, int64_t room, uint32_t* to) {
  const int64_t count = width - first < room ? width - first : room;
  matrix += first * depth;
  const int64_t whole_columns = count / kLanes * kLanes, whole_depth = depth / (2 * kLanes) * (2 * kLanes);
  for (int64_t i = 0; i < whole_columns; i += kLanes)
    for (int64_t k = 0; k < whole_depth; k += 2 * kLanes)
      turn(matrix + i * depth + k, 2 * depth, to + k / 2 * room + i, 4 * room);
  pair_rest(matrix, depth, 0, whole_columns, whole_depth, room, to);
  pair_rest(matrix, depth, whole_columns, count, 0, room, to);
  for (int64_t pair = 0; pair < (depth + 1) / 2; ++pair)
    for (int64_t i = count; i < room; ++i) to[pair * room + i] = 0;
}
