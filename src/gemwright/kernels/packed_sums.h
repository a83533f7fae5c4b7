// Sums of products within a group, for one instruction set and BITS: included by packed_tiles.cc alone.
//
// The three sets differ in how they multiply small integers, so each has its vectors of sums and its sums of one
// group. See packed_tiles.h for the layout.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "packed_tiles.h"
#include "prefetch.h"

namespace {

constexpr int kVectors = BITS == 4 ? 4 : 8;           // of 64 bytes, a group
constexpr int64_t kGroupBytes = 64 * kVectors;

// What the tokens of a block have in one group.
struct Group {
  const int8_t* codes;
  const float* scales;
  const int32_t* starts;
};

// Asks for the group `g` of a tile.
ASKS void ask_for(const ReadNext& tile, int64_t g) {
  for (int line = 0; line < kVectors; ++line) prefetch(tile.codes, g * kGroupBytes + 64 * line);
  prefetch(tile.scales, g * int64_t(kTileRows * sizeof(uint16_t)));
}

// Tiles beside each other, at the group that comes next.
template <int kTiles>
struct Tiles {
  const uint8_t* codes[kTiles];
  const uint16_t* scales[kTiles];

  Tiles(const PackedProduct& p, int64_t first) {
    for (int tile = 0; tile < kTiles; ++tile) {
      codes[tile] = p.codes + (first + tile) * p.groups * kGroupBytes;
      scales[tile] = p.scales + (first + tile) * p.groups * kTileRows;
    }
  }

  // Asks for the group so many groups on.
  ASKS void ask(int64_t ahead) const {
    for (int tile = 0; tile < kTiles; ++tile) ask_for({codes[tile], scales[tile]}, ahead);
  }

  void step() {
    for (int tile = 0; tile < kTiles; ++tile) codes[tile] += kGroupBytes, scales[tile] += kTileRows;
  }
};

// Four codes of a token from input `i`.
inline int32_t four(const Group& x, int token, int i) {
  int32_t word;
  std::memcpy(&word, x.codes + token * kGroup + i, sizeof word);
  return word;
}

#if defined(__AVX512VNNI__)

// Two tiles at once spread a token's codes once for both; one leaves registers for more tokens.
constexpr int kParts = 1, kTogether = kTokensAvx512, kMostTiles = 2;
template <int kTiles>
constexpr int kMostTokens = kTogether / kTiles;
typedef __m512 Floats;  // conversions below are masked, because unmasked GCC 12 warns

inline Floats zeros() { return _mm512_setzero_ps(); }

// Adds to the dot products those of half a group with each token.
template <int kTokens, int kTiles>
inline void add_dots(const __m512i (&words)[kTiles], const Group& x, int i, __m512i (*dots)[kTiles]) {
  for (int t = 0; t < kTokens; ++t) {
    const __m512i four_codes = _mm512_set1_epi32(four(x, t, i));
    for (int tile = 0; tile < kTiles; ++tile) dots[t][tile] = _mm512_dpbusd_epi32(dots[t][tile], words[tile], four_codes);
  }
}

template <int kTokens, int kTiles>
inline void dot_group(const Tiles<kTiles>& tiles, const Group& x, __m512i (*dots)[kTiles]) {
  for (int v = 0; v < kVectors; ++v) {
    __m512i words[kTiles], low[kTiles];
    for (int tile = 0; tile < kTiles; ++tile) words[tile] = _mm512_loadu_si512(tiles.codes[tile] + 64 * v);
    if constexpr (BITS == 4) {
      const __m512i mask = _mm512_set1_epi8(15);
      for (int tile = 0; tile < kTiles; ++tile) {
        low[tile] = _mm512_and_si512(words[tile], mask);
        words[tile] = _mm512_and_si512(_mm512_srli_epi16(words[tile], 4), mask);
      }
      add_dots<kTokens, kTiles>(low, x, 4 * v, dots);
      add_dots<kTokens, kTiles>(words, x, 16 + 4 * v, dots);
    } else {
      for (int tile = 0; tile < kTiles; ++tile) low[tile] = _mm512_xor_si512(words[tile], _mm512_set1_epi8(-128));
      add_dots<kTokens, kTiles>(low, x, 4 * v, dots);
    }
  }
}

// Adds the group's products of 16 rows a tile with each token to its sums.
template <int kTokens, int kTiles>
inline void add_group(const Tiles<kTiles>& tiles, const Group& x, Floats (*sums)[kTiles]) {
  __m512i dots[kTokens][kTiles];
  for (int t = 0; t < kTokens; ++t)
    for (int tile = 0; tile < kTiles; ++tile) dots[t][tile] = _mm512_set1_epi32(x.starts[t]);
  dot_group<kTokens, kTiles>(tiles, x, dots);
  for (int tile = 0; tile < kTiles; ++tile) {
    const auto* scales = reinterpret_cast<const __m256i*>(tiles.scales[tile]);
    const Floats scale = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(scales));
    for (int t = 0; t < kTokens; ++t) {
      const Floats both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[t]));
      sums[t][tile] = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, dots[t][tile]), both, sums[t][tile]);
    }
  }
}

inline void store(float* to, Floats sums) { _mm512_storeu_ps(to, sums); }

#elif defined(__AVX2__)

// Both halves of a tile at once: each line of memory is used whole, and a token's codes are spread once.
constexpr int kParts = 2, kTogether = kTokensAvx2, kMostTiles = 1;
template <int>
constexpr int kMostTokens = kTogether;
typedef __m256 Floats;

inline Floats zeros() { return _mm256_setzero_ps(); }
inline __m256i load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

// Keeps GCC from adding sums in another order, for which they would not fit the registers.
inline __m256i kept(__m256i sums) {
  asm("" : "+x"(sums));
  return sums;
}

#if BITS == 4

// 16-bit sums hold a whole group: 8 products of pairs, each at most 2 * 15 * 127.
template <int kTokens>
inline void dot_group(const uint8_t* codes, const Group& x, __m256i (*dots)[kParts]) {
  const __m256i mask = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  for (int t = 0; t < kTokens; ++t) dots[t][0] = dots[t][1] = _mm256_set1_epi32(x.starts[t]);
  for (int v = 0; v < 4; ++v) {
    for (int shift = 0; shift < 2; ++shift) {
      __m256i word[kParts];
      for (int part = 0; part < kParts; ++part) {
        word[part] = load(codes + 64 * v + 32 * part);
        word[part] = _mm256_and_si256(shift ? _mm256_srli_epi16(word[part], 4) : word[part], mask);
      }
      for (int t = 0; t < kTokens; ++t) {
        const __m256i four_codes = _mm256_set1_epi32(four(x, t, 16 * shift + 4 * v));
        for (int part = 0; part < kParts; ++part)
          dots[t][part] = kept(_mm256_add_epi16(dots[t][part], _mm256_maddubs_epi16(word[part], four_codes)));
      }
    }
  }
  for (int t = 0; t < kTokens; ++t)
    for (int part = 0; part < kParts; ++part) dots[t][part] = _mm256_madd_epi16(dots[t][part], ones);
}

#else

// |w| times x with w's sign: at most 2 * 127 * 127, which 16 bits hold; nothing has to be taken off.
template <int kTokens>
inline void dot_group(const uint8_t* codes, const Group& x, __m256i (*dots)[kParts]) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int t = 0; t < kTokens; ++t) dots[t][0] = dots[t][1] = _mm256_setzero_si256();
  for (int v = 0; v < 8; ++v) {
    const __m256i word[kParts] = {load(codes + 64 * v), load(codes + 64 * v + 32)};
    const __m256i size[kParts] = {_mm256_abs_epi8(word[0]), _mm256_abs_epi8(word[1])};
    for (int t = 0; t < kTokens; ++t) {
      const __m256i four_codes = _mm256_set1_epi32(four(x, t, 4 * v));
      for (int part = 0; part < kParts; ++part) {
        const __m256i pairs = _mm256_maddubs_epi16(size[part], _mm256_sign_epi8(four_codes, word[part]));
        dots[t][part] = kept(_mm256_add_epi32(dots[t][part], _mm256_madd_epi16(pairs, ones)));
      }
    }
  }
}

#endif

// Adds the group's products of 16 rows with each token to its sums.
template <int kTokens, int kTiles>
inline void add_group(const Tiles<kTiles>& tiles, const Group& x, Floats (*sums)[kParts]) {
  __m256i dots[kTokens][kParts];
  dot_group<kTokens>(tiles.codes[0], x, dots);
  for (int part = 0; part < kParts; ++part) {
    const Floats scale = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(tiles.scales[0] + 8 * part)));
    for (int t = 0; t < kTokens; ++t) {
      const Floats both = _mm256_mul_ps(scale, _mm256_set1_ps(x.scales[t]));
      sums[t][part] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t][part]), both, sums[t][part]);
    }
  }
}

inline void store(float* to, Floats sums) { _mm256_storeu_ps(to, sums); }

#else

constexpr int kParts = 1, kTogether = kTokensPortable, kMostTiles = 1;
template <int>
constexpr int kMostTokens = kTogether;
struct Floats {
  float of[kTileRows];
};

inline Floats zeros() { return {}; }

inline float widen(uint16_t half) {
  const uint32_t sign = uint32_t(half & 0x8000) << 16, exponent = (half >> 10) & 31, fraction = half & 1023;
  if (exponent == 0) {  // zero and subnormals
    const float value = float(fraction) * 0x1p-24f;
    return sign ? -value : value;
  }
  const uint32_t word = sign | (exponent + 112) << 23 | fraction << 13;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

template <int kTokens, int kTiles>
inline void add_group(const Tiles<kTiles>& tiles, const Group& x, Floats (*sums)[kParts]) {
  int32_t dots[kTileRows] = {};
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < kTileRows; ++r) {
      const uint8_t* word = tiles.codes[0] + 64 * v + 4 * r;
      for (int b = 0; b < 4; ++b) {
        if constexpr (BITS == 4) {
          dots[r] += (int32_t(word[b] & 15) - 8) * x.codes[4 * v + b];
          dots[r] += (int32_t(word[b] >> 4) - 8) * x.codes[16 + 4 * v + b];
        } else {
          dots[r] += int32_t(int8_t(word[b])) * x.codes[4 * v + b];
        }
      }
    }
  }
  for (int r = 0; r < kTileRows; ++r) sums[0][0].of[r] += float(dots[r]) * (widen(tiles.scales[0][r]) * x.scales[0]);
}

inline void store(float* to, Floats sums) { std::memcpy(to, sums.of, sizeof sums.of); }

#endif

}  // namespace
