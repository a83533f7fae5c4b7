// The arithmetic of the packed product, compiled once for each instruction set from packed_tiles.cc.
#pragma once

#include <cstdint>

constexpr int kTileRows = 16;   // weight rows that are interleaved
constexpr int kGroup = 32;      // inputs that share a scale

// out[t, o] = sum over groups g of scales[o, g] * x_scales[t, g] * (sum of codes[o, g] * x_codes[t, g]).
//
// Layout 1. A tile holds 16 rows. Of each group it has vectors of 64 bytes; byte 4r + b of a vector
// belongs to row r. With 8 bits, vector v of 8 holds input 4v + b, signed. With 4 bits, vector v of 4
// holds input 4v + b in the low half and input 16 + 4v + b in the high half, each plus 8.
struct PackedProduct {
  const int8_t* x_codes;     // (n, groups * 32), within [-127, 127]
  const float* x_scales;     // (n, groups)
  const int32_t* x_sums;     // (n, groups), of the codes
  const uint8_t* codes;      // (tiles, groups, 256 or 512)
  const uint16_t* scales;    // (tiles, groups, 16), float16
  float* out;                // (n, outs)
  int64_t n, groups, outs;
};

// Computes the tiles [first, last).
using PackedTiles = void(const PackedProduct& product, int64_t first, int64_t last);

PackedTiles packed_tiles4_portable, packed_tiles4_avx2, packed_tiles4_avx512;
PackedTiles packed_tiles8_portable, packed_tiles8_avx2, packed_tiles8_avx512;
