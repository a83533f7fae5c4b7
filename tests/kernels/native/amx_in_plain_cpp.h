// Intel's intrinsics for the matrix unit (AMX) that the kernels use, in plain C++, beside those of AVX-512.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "avx512_in_plain_cpp.h"

namespace plain {

struct Tile {
  int rows = 0, bytes = 0;
  char values[16][64];
};

inline thread_local Tile tiles[8];

// A tile that is used before its shape is known is an error, as with the unit itself.
inline Tile& tile_at(int number) {
  if (tiles[number].rows == 0) std::abort();
  return tiles[number];
}

inline void tile_loadconfig(const void* from) {
  unsigned char shapes[64];
  std::memcpy(shapes, from, sizeof shapes);
  if (shapes[0] != 1) std::abort();
  for (int number = 0; number < 8; ++number) {
    tiles[number] = {};
    tiles[number].bytes = shapes[16 + 2 * number] + 256 * shapes[17 + 2 * number];
    tiles[number].rows = shapes[48 + number];
    if (tiles[number].bytes > 64 || tiles[number].rows > 16) std::abort();
  }
}

inline void tile_release() {
  for (auto& tile : tiles) tile = {};
}

inline void tile_zero(int number) { std::memset(tile_at(number).values, 0, sizeof tiles[number].values); }

inline void tile_loadd(int number, const void* from, int64_t stride) {
  Tile& tile = tile_at(number);
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(tile.values[row], static_cast<const char*>(from) + row * stride, size_t(tile.bytes));
}

inline void tile_stored(int number, void* to, int64_t stride) {
  const Tile& tile = tile_at(number);
  for (int row = 0; row < tile.rows; ++row)
    std::memcpy(static_cast<char*>(to) + row * stride, tile.values[row], size_t(tile.bytes));
}

// Sums (M, N) of pairs of bfloat16: left (M, K), right (K, N). Subnormal numbers are zeros to the unit, not here.
inline void tile_dpbf16ps(int sums, int left, int right) {
  Tile &to = tile_at(sums), &a = tile_at(left), &b = tile_at(right);
  if (a.rows != to.rows || b.bytes != to.bytes || a.bytes / 4 != b.rows) std::abort();
  for (int m = 0; m < to.rows; ++m) {
    for (int n = 0; n < to.bytes / 4; ++n) {
      float sum;
      std::memcpy(&sum, to.values[m] + 4 * n, sizeof sum);
      for (int k = 0; k < b.rows; ++k) {
        uint16_t one[2], other[2];
        std::memcpy(one, a.values[m] + 4 * k, sizeof one);
        std::memcpy(other, b.values[k] + 4 * n, sizeof other);
        for (int half = 0; half < 2; ++half) sum += widened_bfloat16(one[half]) * widened_bfloat16(other[half]);
      }
      std::memcpy(to.values[m] + 4 * n, &sum, sizeof sum);
    }
  }
}

}  // namespace plain

#define _tile_loadconfig plain::tile_loadconfig
#define _tile_release plain::tile_release
#define _tile_zero plain::tile_zero
#define _tile_loadd plain::tile_loadd
#define _tile_stream_loadd plain::tile_loadd
#define _tile_stored plain::tile_stored
#define _tile_dpbf16ps plain::tile_dpbf16ps
