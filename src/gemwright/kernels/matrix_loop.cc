// See matrix_loop.h. CMake compiles this file under the name given by MATRIX_LOOP.
#include "matrix_loop.h"

#include "matrix_unit.h"

void MATRIX_LOOP(const uint16_t* a, const uint16_t* b, int64_t rounds, float* out) {
  const UnitInUse unit;
  fence();
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  _tile_loadd(4, a, 64);
  _tile_loadd(5, b, 64);
  for (int64_t round = 0; round < rounds; ++round) {
    _tile_dpbf16ps(0, 4, 5);
    _tile_dpbf16ps(1, 4, 5);
    _tile_dpbf16ps(2, 4, 5);
    _tile_dpbf16ps(3, 4, 5);
  }
  _tile_stored(0, out, 64);
  _tile_stored(1, out + kTileSums, 64);
  _tile_stored(2, out + 2 * kTileSums, 64);
  _tile_stored(3, out + 3 * kTileSums, 64);
  fence();
}
