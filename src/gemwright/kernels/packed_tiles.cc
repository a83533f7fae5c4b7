// The packed product for a range of tiles. See packed_tiles.h for the layout.
//
// CMake compiles this file once for each instruction set and width of codes, under the name given by
// PACKED_TILES and with BITS. The three sets differ in how they multiply small integers, so each has
// its vectors of sums and its sums of one group; the loops around them are shared.
// Nothing of the standard library but memcpy may be used here: an inline function compiled for
// AVX-512 could be the copy of it that the linker keeps for everyone.
#include "packed_tiles.h"

#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "prefetch.h"

namespace {

constexpr int kVectors = BITS == 4 ? 4 : 8;           // of 64 bytes, a group
constexpr int64_t kGroupBytes = 64 * kVectors;
constexpr int64_t kAhead = 4096;                      // bytes of codes asked for before the only pass over them

// What the tokens of a block have in one group.
struct Group {
  const int8_t* codes;
  const float* scales;
  const int32_t* starts;
};

// Four codes of a token from input `i`.
inline int32_t four(const Group& x, int token, int i) {
  int32_t word;
  std::memcpy(&word, x.codes + token * kGroup + i, sizeof word);
  return word;
}

#if defined(__AVX512VNNI__)

constexpr int kParts = 1, kMostTokens = kTokensAvx512;
typedef __m512 Floats;  // conversions below are masked, because unmasked GCC 12 warns

inline Floats zeros() { return _mm512_setzero_ps(); }

// Adds the group's products of 16 rows with each token to its sums.
template <int kTokens>
inline void add_group(const uint8_t* codes, const uint16_t* scales, const Group& x, Floats (*sums)[kParts]) {
  __m512i dots[kTokens];
  for (int t = 0; t < kTokens; ++t) dots[t] = _mm512_set1_epi32(x.starts[t]);
  for (int v = 0; v < kVectors; ++v) {
    const __m512i word = _mm512_loadu_si512(codes + 64 * v);
    if constexpr (BITS == 4) {
      const __m512i mask = _mm512_set1_epi8(15);
      const __m512i low = _mm512_and_si512(word, mask), high = _mm512_and_si512(_mm512_srli_epi16(word, 4), mask);
      for (int t = 0; t < kTokens; ++t) {
        dots[t] = _mm512_dpbusd_epi32(dots[t], low, _mm512_set1_epi32(four(x, t, 4 * v)));
        dots[t] = _mm512_dpbusd_epi32(dots[t], high, _mm512_set1_epi32(four(x, t, 16 + 4 * v)));
      }
    } else {
      const __m512i shifted = _mm512_xor_si512(word, _mm512_set1_epi8(-128));
      for (int t = 0; t < kTokens; ++t)
        dots[t] = _mm512_dpbusd_epi32(dots[t], shifted, _mm512_set1_epi32(four(x, t, 4 * v)));
    }
  }
  const Floats scale = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
  for (int t = 0; t < kTokens; ++t) {
    const Floats both = _mm512_mul_ps(scale, _mm512_set1_ps(x.scales[t]));
    sums[t][0] = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, dots[t]), both, sums[t][0]);
  }
}

inline void store(float* to, Floats sums) { _mm512_storeu_ps(to, sums); }

#elif defined(__AVX2__)

// Both halves of a tile at once: each line of memory is used whole, and a token's codes are spread once.
constexpr int kParts = 2, kMostTokens = kTokensAvx2;
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
template <int kTokens>
inline void add_group(const uint8_t* codes, const uint16_t* scales, const Group& x, Floats (*sums)[kParts]) {
  __m256i dots[kTokens][kParts];
  dot_group<kTokens>(codes, x, dots);
  for (int part = 0; part < kParts; ++part) {
    const Floats scale = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + 8 * part)));
    for (int t = 0; t < kTokens; ++t) {
      const Floats both = _mm256_mul_ps(scale, _mm256_set1_ps(x.scales[t]));
      sums[t][part] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t][part]), both, sums[t][part]);
    }
  }
}

inline void store(float* to, Floats sums) { _mm256_storeu_ps(to, sums); }

#else

constexpr int kParts = 1, kMostTokens = kTokensPortable;
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

template <int kTokens>
inline void add_group(const uint8_t* codes, const uint16_t* scales, const Group& x, Floats (*sums)[kParts]) {
  int32_t dots[kTileRows] = {};
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < kTileRows; ++r) {
      const uint8_t* word = codes + 64 * v + 4 * r;
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
  for (int r = 0; r < kTileRows; ++r) sums[0][0].of[r] += float(dots[r]) * (widen(scales[r]) * x.scales[0]);
}

inline void store(float* to, Floats sums) { std::memcpy(to, sums.of, sizeof sums.of); }

#endif

// To the nearest, ties to even; what arithmetic makes of a value that is not a number stays none.
inline uint16_t narrowed(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

// Puts a token's sums of a tile into place, as far as the matrix has these rows.
inline void keep(const PackedProduct& p, int64_t tile, int64_t token, const Floats* sums) {
  float rows[kTileRows];
  for (int part = 0; part < kParts; ++part) store(rows + part * (kTileRows / kParts), sums[part]);
  const int64_t row = tile * kTileRows, at = token * p.outs + row;
  const size_t valid = size_t(p.outs - row < kTileRows ? p.outs - row : kTileRows);
  if (p.narrow) {
    uint16_t halves[kTileRows];
    for (int r = 0; r < kTileRows; ++r) halves[r] = narrowed(rows[r]);
    std::memcpy(static_cast<uint16_t*>(p.out) + at, halves, valid * sizeof(uint16_t));
  } else {
    std::memcpy(static_cast<float*>(p.out) + at, rows, valid * sizeof(float));
  }
}

// Codes of the next tile, asked for evenly during all passes over this one: memory would be idle after the
// first pass. With one pass, and at a first tile, codes are asked for nearby: the processor's own
// prefetching stops at the end of each page.
struct Ahead {
  const uint8_t* codes;  // or nullptr
  int64_t passes, steps;

  void ask() {
    if (codes == nullptr || steps++ % passes) return;
    for (int line = 0; line < kVectors; ++line) __builtin_prefetch(codes + 64 * line, 0, 2);
    codes += kGroupBytes;
  }
};

// A tile with kTokens tokens from `token`.
template <int kTokens>
void block(const PackedProduct& p, int64_t tile, int64_t token, bool near, Ahead& ahead) {
  Floats sums[kTokens][kParts];
  for (int t = 0; t < kTokens; ++t)
    for (int part = 0; part < kParts; ++part) sums[t][part] = zeros();
  Group x{p.x_codes + token * p.groups * kGroup, p.x_scales + token * p.groups, p.x_starts + token * p.groups};
  const uint8_t* codes = p.codes + tile * p.groups * kGroupBytes;
  const uint16_t* scales = p.scales + tile * p.groups * kTileRows;
  for (int64_t g = 0; g < p.groups; ++g) {
    if (near) {
      for (int line = 0; line < kVectors; ++line) prefetch(codes, kAhead + 64 * line);
    }
    ahead.ask();
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    if constexpr (kTokens > 2) asm volatile("" : "+m"(sums));  // a group's own sums need the registers
#endif
    add_group<kTokens>(codes, scales, x, sums);
    x = {x.codes + kTokens * kGroup, x.scales + kTokens, x.starts + kTokens};
    codes += kGroupBytes;
    scales += kTileRows;
  }
  for (int t = 0; t < kTokens; ++t) keep(p, tile, token + t, sums[t]);
}

// The first tokens bring the tile into the cache, where the next ones find it.
template <int kTokens>
void all_tokens(const PackedProduct& p, int64_t tile, int64_t token, bool near, Ahead& ahead) {
  for (; token + kTokens <= p.n; token += kTokens) block<kTokens>(p, tile, token, near && token == 0, ahead);
  if constexpr (kTokens > 1) all_tokens<kTokens - 1>(p, tile, token, near, ahead);
}

}  // namespace

void PACKED_TILES(const PackedProduct& p, int64_t first, int64_t last) {
  const int64_t passes = (p.n + kMostTokens - 1) / kMostTokens;
  for (int64_t tile = first; tile < last; ++tile) {
    const bool asked = passes > 1 && tile > first, ask = passes > 1 && tile + 1 < last;
    Ahead ahead{ask ? p.codes + (tile + 1) * p.groups * kGroupBytes : nullptr, passes, 0};
    all_tokens<kMostTokens>(p, tile, 0, !asked, ahead);
  }
}
