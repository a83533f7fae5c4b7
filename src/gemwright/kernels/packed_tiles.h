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
  const int8_t* x_codes;     // (n, groups, 32), within [-127, 127]; tokens interleaved, see below
  const float* x_scales;     // (n, groups), interleaved
  const int32_t* x_starts;   // (n, groups), interleaved: what a group's integer sum begins with
  const uint16_t* x_wide;    // instead of these three, rows as widened_tiles.h has them
  const uint8_t* codes;      // (tiles, groups, 256 or 512)
  const uint16_t* scales;    // (tiles, groups, 16), float16
  void* out;                 // (n, outs), float or bfloat16
  bool narrow;               // whether out is bfloat16
  int64_t n, groups, outs;
};

// Tokens that an instruction set takes at once. A block of so many, and the last one of the rest, is
// stored group by group, in each group token by token.
constexpr int kTokensAvx512 = 8, kTokensAvx2 = 4, kTokensPortable = 1;

// Where codes are multiplied unsigned they are too large by 8 or 128, and a group's sum begins with
// what this adds: -8 or -128 times the sum of the token's codes. AVX2 with 4 bits has two 16-bit sums
// a row, of half the inputs each, and begins both with half of it; both stay within 15 * 127 * 16.
inline int32_t packed_start_avx512(int64_t bits, int32_t sum) { return bits == 4 ? -8 * sum : -128 * sum; }
inline int32_t packed_start_avx2(int64_t bits, int32_t sum) {
  return bits == 4 ? int32_t(uint32_t(uint16_t(-4 * sum)) * 0x10001u) : 0;
}

// Weights that this thread reads after those of a call; nullptr for none.
struct ReadNext {
  const uint8_t* codes;
  const uint16_t* scales;
};

// Computes the tiles [first, last), and asks for the beginning of what comes next while it reads the last of them.
using PackedTiles = void(const PackedProduct& product, int64_t first, int64_t last, const ReadNext& next);

PackedTiles packed_tiles4_portable, packed_tiles4_avx2, packed_tiles4_avx512, packed_tiles4_amx;
PackedTiles packed_tiles8_portable, packed_tiles8_avx2, packed_tiles8_avx512, packed_tiles8_amx;
