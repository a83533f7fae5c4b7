// See unit_product.h. CMake compiles this file under the names given by UNIT_STRIPES, UNIT_ROWS and TURNED_ROWS, with
// that of PAIR_ROWS.
#include "unit_product.h"

#include "matrix_unit.h"
#include "narrow_tiles.h"
#include "turn.h"
#include "widened_tiles.h"

namespace {

static_assert(kUnitSide == kSide && kUnitSide == kBlockRows && kStep == kGroup);

alignas(64) thread_local float sums[kUnitStripes * kUnitBlocks * kSumsSize];

void keep(const UnitProduct& p, int64_t block, int64_t stripe, const float* from) {
  const int64_t column = stripe * kSide, first = block * kSide, left = p.rows - first;
  for (int64_t i = 0; i < kSide && i < left; ++i)
    keep_row(from, i, p.c + (first + i) * p.columns + column, p.columns - column);
}

// `b` begins with the stripe `first`.
void panel(const UnitProduct& p, const uint16_t* b, int64_t block, int64_t first, int64_t last) {
  const int64_t blocks = p.blocks(), end = block + kUnitBlocks < blocks ? block + kUnitBlocks : blocks;
  for (int64_t step = 0; step < p.steps; step += kPartGroups) {
    const int64_t steps = p.steps - step < kPartGroups ? p.steps - step : kPartGroups;
    const uint16_t* part = p.a + step * blocks * kStepSize;
    for (int64_t stripe = first; stripe < last; ++stripe) {
      const uint16_t* right = b + ((stripe - first) * p.steps + step) * kStepSize;
      for (int64_t at = block; at < end; ++at) {
        float* to = sums + ((stripe - first) * kUnitBlocks + at - block) * kSumsSize;
        add_block(part + at * steps * kStepSize, right, steps, step == 0, to, [] {});
        if (step + steps == p.steps) keep(p, at, stripe, to);
      }
    }
  }
}

}  // namespace

void UNIT_STRIPES(const UnitProduct& p, int64_t first, int64_t last) {
  const UnitInUse unit;
  for (int64_t block = 0; block < p.blocks(); block += kUnitBlocks) panel(p, p.b, block, first, last);
}

void UNIT_ROWS(const UnitProduct& p, int64_t block) {
  const UnitInUse unit;
  const int64_t stripes = (p.columns + kSide - 1) / kSide;
  for (int64_t stripe = 0; stripe < stripes; stripe += kUnitStripes)
    panel(p, p.b + stripe * p.steps * kStepSize, block, stripe,
          stripe + kUnitStripes < stripes ? stripe + kUnitStripes : stripes);
}

void TURNED_ROWS(const WidenedRows& w, int64_t block, uint32_t* room) {
  const int64_t pairs = (w.in + 1) / 2;
  PAIR_ROWS(static_cast<const uint16_t*>(w.rows), w.in, w.n, block * kSide, kSide, room);
  for (int64_t group = 0; group < w.groups; ++group) {
    uint32_t words[16 * kSide] = {};
    const int64_t valid = pairs - group * 16 < 16 ? pairs - group * 16 : 16;
    std::memcpy(words, room + group * 16 * kSide, size_t(valid * kSide) * sizeof *words);
    uint16_t* to = w.out + w.at(block, group);
    for (int64_t half = 0; half < 2; ++half) turn(words + 16 * half, 4 * kSide, to + half * kTileSize, 2 * kStep);
  }
}
