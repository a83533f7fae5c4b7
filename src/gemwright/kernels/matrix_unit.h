// Blocks of products by the matrix unit (AMX) of newer Intel processors: pairs of bfloat16, summed in float32.
//
// Included by the files that are compiled for it. The compiler does not know that tiles are read from memory and
// written to it, so fences tell.
#pragma once

#include <cstdint>
#if defined(__AMX_TILE__)
#include <immintrin.h>
#endif

#include "vectors.h"

namespace {

// Rows and columns of a block; inputs of a step; elements that a side of a block has in a step, which are two tiles.
constexpr int64_t kSide = 32, kStep = 32, kStepSize = kSide * kStep, kTileSize = kStepSize / 2;
constexpr int64_t kSumsSize = kSide * kSide, kTileSums = kSumsSize / 4;

inline void fence() { asm volatile("" ::: "memory"); }

// Eight tiles of 16 rows of 64 bytes, while this lives. The unit at rest slows no other work of the processor.
class UnitInUse {
 public:
  UnitInUse() {
    static constexpr Shapes shapes;
    _tile_loadconfig(&shapes);
  }
  ~UnitInUse() { _tile_release(); }
  UnitInUse(const UnitInUse&) = delete;
  UnitInUse& operator=(const UnitInUse&) = delete;

 private:
  struct alignas(64) Shapes {
    uint8_t palette = 1, start = 0, none[14] = {};
    uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
    uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
  };
};

// Adds to the sums of a block, or begins them. A step of `left` is 32 rows of 32 inputs; of `right` 16 rows of pairs of
// inputs by 32 columns. The sums are four tiles: rows 0 to 15 with each half of the columns, then the rest.
// `beside` is called in each step, for work of other units. Of both sides `right` is kept in the nearest cache.
template <class Beside>
inline void add_block(const uint16_t* left, const uint16_t* right, int64_t steps, bool begin, float* sums,
                      Beside beside) {
  constexpr int64_t kLine = 64;
  fence();
  if (begin) {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  } else {
    _tile_loadd(0, sums, kLine);
    _tile_loadd(1, sums + kTileSums, kLine);
    _tile_loadd(2, sums + 2 * kTileSums, kLine);
    _tile_loadd(3, sums + 3 * kTileSums, kLine);
  }
  for (int64_t step = 0; step < steps; ++step, left += kStepSize, right += kStepSize) {
    _tile_stream_loadd(4, left, kLine);
    _tile_stream_loadd(5, left + kTileSize, kLine);
    _tile_loadd(6, right, 2 * kLine);
    _tile_loadd(7, right + kSide, 2 * kLine);
    _tile_dpbf16ps(0, 4, 6);
    _tile_dpbf16ps(1, 4, 7);
    _tile_dpbf16ps(2, 5, 6);
    _tile_dpbf16ps(3, 5, 7);
    beside();
  }
  _tile_stored(0, sums, kLine);
  _tile_stored(1, sums + kTileSums, kLine);
  _tile_stored(2, sums + 2 * kTileSums, kLine);
  _tile_stored(3, sums + 3 * kTileSums, kLine);
  fence();
}

// Puts the sums of a row of a block into place, as far as the result has these columns.
template <class Element>
inline void keep_row(const float* sums, int64_t row, Element* out, int64_t columns) {
  const float* halves = sums + row / kLanes * 2 * kTileSums + row % kLanes * kLanes;
  Element part[kSide], *to = columns >= kSide ? out : part;
  store(to, load(halves));
  store(to + kLanes, load(halves + kTileSums));
  if (to == part) std::memcpy(out, part, size_t(columns) * sizeof *out);
}

}  // namespace
