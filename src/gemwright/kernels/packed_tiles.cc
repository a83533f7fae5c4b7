// The packed product for a range of tiles. See packed_tiles.h for the layout.
//
// CMake compiles this file once for each instruction set and width of codes, under the name given by
// PACKED_TILES and with BITS. The three sets differ in how they multiply small integers, so each has
// a `Half` (rows that one vector serves) and its sums of one group; the loops around them are shared.
// Nothing of the standard library but memcpy may be used here: an inline function compiled for
// AVX-512 could be the copy of it that the linker keeps for everyone.
#include "packed_tiles.h"

#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

constexpr int kVectors = BITS == 4 ? 4 : 8;           // of 64 bytes, a group
constexpr int64_t kGroupBytes = 64 * kVectors;
constexpr int kOffset = BITS == 4 ? 8 : 128;          // what unsigned codes are too large by
constexpr int64_t kAhead = 4096;                      // bytes of codes asked for before they are needed

inline int32_t four(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, sizeof word);
  return word;
}

#if defined(__AVX512VNNI__)

constexpr int kRows = 16, kMostTokens = 8;
constexpr int parts_together(int) { return 1; }
typedef __m512 Floats;  // conversions below are masked, because unmasked GCC 12 warns

inline Floats zeros() { return _mm512_setzero_ps(); }

// sums[t] += the group's products of 16 rows with token t.
template <int kTokens>
inline void add_group(const uint8_t* codes, const uint16_t* scales, const int8_t* const* x, const float* x_scale,
                      const int32_t* x_sum, Floats* sums) {
  __m512i dots[kTokens];
  for (int t = 0; t < kTokens; ++t) dots[t] = _mm512_set1_epi32(-kOffset * x_sum[t]);
  for (int v = 0; v < kVectors; ++v) {
    const __m512i word = _mm512_loadu_si512(codes + 64 * v);
    if constexpr (BITS == 4) {
      const __m512i mask = _mm512_set1_epi8(15);
      const __m512i low = _mm512_and_si512(word, mask), high = _mm512_and_si512(_mm512_srli_epi16(word, 4), mask);
      for (int t = 0; t < kTokens; ++t) {
        dots[t] = _mm512_dpbusd_epi32(dots[t], low, _mm512_set1_epi32(four(x[t] + 4 * v)));
        dots[t] = _mm512_dpbusd_epi32(dots[t], high, _mm512_set1_epi32(four(x[t] + 16 + 4 * v)));
      }
    } else {
      const __m512i shifted = _mm512_xor_si512(word, _mm512_set1_epi8(-128));
      for (int t = 0; t < kTokens; ++t)
        dots[t] = _mm512_dpbusd_epi32(dots[t], shifted, _mm512_set1_epi32(four(x[t] + 4 * v)));
    }
  }
  const Floats scale = _mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(scales)));
  for (int t = 0; t < kTokens; ++t) {
    const Floats both = _mm512_mul_ps(scale, _mm512_set1_ps(x_scale[t]));
    sums[t] = _mm512_fmadd_ps(_mm512_maskz_cvtepi32_ps(0xffff, dots[t]), both, sums[t]);
  }
}

inline void store(float* to, Floats sums) { _mm512_storeu_ps(to, sums); }

#elif defined(__AVX2__)

constexpr int kRows = 8, kMostTokens = 4;
// Both halves of a tile at once where the sums of their tokens fit the registers beside the codes:
// each line of memory is then used whole, and a token's codes are spread once for both.
constexpr int parts_together(int tokens) { return tokens <= 2 ? 2 : 1; }
typedef __m256 Floats;

inline Floats zeros() { return _mm256_setzero_ps(); }
inline __m256i load(const uint8_t* from) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from)); }

#if BITS == 4

// 16-bit sums hold a whole group: 8 products of pairs, each at most 2 * 15 * 127.
template <int kTokens>
inline void dot_group(const uint8_t* codes, const int8_t* const* x, const int32_t* x_sum, __m256i* dots) {
  const __m256i mask = _mm256_set1_epi8(15), ones = _mm256_set1_epi16(1);
  __m256i low[4], high[4];
  for (int v = 0; v < 4; ++v) {
    const __m256i word = load(codes + 64 * v);
    low[v] = _mm256_and_si256(word, mask);
    high[v] = _mm256_and_si256(_mm256_srli_epi16(word, 4), mask);
  }
  for (int t = 0; t < kTokens; ++t) {
    __m256i pairs = _mm256_setzero_si256();
    for (int v = 0; v < 4; ++v) {
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(low[v], _mm256_set1_epi32(four(x[t] + 4 * v))));
      pairs = _mm256_add_epi16(pairs, _mm256_maddubs_epi16(high[v], _mm256_set1_epi32(four(x[t] + 16 + 4 * v))));
    }
    dots[t] = _mm256_sub_epi32(_mm256_madd_epi16(pairs, ones), _mm256_set1_epi32(kOffset * x_sum[t]));
  }
}

#else

// |w| times x with w's sign: at most 2 * 127 * 127, which 16 bits hold; nothing has to be taken off.
template <int kTokens>
inline void dot_group(const uint8_t* codes, const int8_t* const* x, const int32_t*, __m256i* dots) {
  const __m256i ones = _mm256_set1_epi16(1);
  for (int t = 0; t < kTokens; ++t) dots[t] = _mm256_setzero_si256();
  for (int v = 0; v < 8; ++v) {
    const __m256i word = load(codes + 64 * v), size = _mm256_abs_epi8(word);
    for (int t = 0; t < kTokens; ++t) {
      const __m256i signed_x = _mm256_sign_epi8(_mm256_set1_epi32(four(x[t] + 4 * v)), word);
      dots[t] = _mm256_add_epi32(dots[t], _mm256_madd_epi16(_mm256_maddubs_epi16(size, signed_x), ones));
    }
  }
}

#endif

// sums[t] += the group's products of 8 rows with token t.
template <int kTokens>
inline void add_group(const uint8_t* codes, const uint16_t* scales, const int8_t* const* x, const float* x_scale,
                      const int32_t* x_sum, Floats* sums) {
  __m256i dots[kTokens];
  dot_group<kTokens>(codes, x, x_sum, dots);
  const Floats scale = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
  for (int t = 0; t < kTokens; ++t)
    sums[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dots[t]), _mm256_mul_ps(scale, _mm256_set1_ps(x_scale[t])), sums[t]);
}

inline void store(float* to, Floats sums) { _mm256_storeu_ps(to, sums); }

#else

constexpr int kRows = 16, kMostTokens = 1;
constexpr int parts_together(int) { return 1; }
struct Floats {
  float of[kRows];
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
inline void add_group(const uint8_t* codes, const uint16_t* scales, const int8_t* const* x, const float* x_scale,
                      const int32_t*, Floats* sums) {
  int32_t dots[kRows] = {};
  for (int v = 0; v < kVectors; ++v) {
    for (int r = 0; r < kRows; ++r) {
      const uint8_t* word = codes + 64 * v + 4 * r;
      for (int b = 0; b < 4; ++b) {
        if constexpr (BITS == 4) {
          dots[r] += (int32_t(word[b] & 15) - 8) * x[0][4 * v + b] + (int32_t(word[b] >> 4) - 8) * x[0][16 + 4 * v + b];
        } else {
          dots[r] += int32_t(int8_t(word[b])) * x[0][4 * v + b];
        }
      }
    }
  }
  for (int r = 0; r < kRows; ++r) sums[0].of[r] += float(dots[r]) * (widen(scales[r]) * x_scale[0]);
}

inline void store(float* to, Floats sums) { std::memcpy(to, sums.of, sizeof sums.of); }

#endif

// Puts the sums of kRows rows into place, as far as the matrix has these rows.
inline void keep(const PackedProduct& p, int64_t row, int64_t token, Floats sums) {
  const int64_t valid = p.outs - row < kRows ? p.outs - row : kRows;
  float* out = p.out + token * p.outs + row;
  if (valid == kRows) {
    store(out, sums);
  } else if (valid > 0) {
    float last[kRows];
    store(last, sums);
    std::memcpy(out, last, size_t(valid) * sizeof(float));
  }
}

// Some rows of a tile, from `part`, with kTokens tokens from `token`.
template <int kTokens>
void block(const PackedProduct& p, int64_t tile, int part, int64_t token) {
  constexpr int kParts = parts_together(kTokens);
  Floats sums[kParts][kTokens];
  const int8_t* x[kTokens];
  for (int t = 0; t < kTokens; ++t) {
    for (int half = 0; half < kParts; ++half) sums[half][t] = zeros();
    x[t] = p.x_codes + (token + t) * p.groups * kGroup;
  }
  const uint8_t* codes = p.codes + tile * p.groups * kGroupBytes + 4 * part;
  const uint16_t* scales = p.scales + tile * p.groups * kTileRows + part;
  for (int64_t g = 0; g < p.groups; ++g) {
    float x_scale[kTokens];
    int32_t x_sum[kTokens];
    for (int t = 0; t < kTokens; ++t) {
      x_scale[t] = p.x_scales[(token + t) * p.groups + g];
      x_sum[t] = p.x_sums[(token + t) * p.groups + g];
    }
    // The processor's own prefetching stops at the end of each page.
    for (int line = 0; line < kVectors; ++line) __builtin_prefetch(codes + kAhead + 64 * line);
    for (int half = 0; half < kParts; ++half)
      add_group<kTokens>(codes + 4 * kRows * half, scales + kRows * half, x, x_scale, x_sum, sums[half]);
    for (int t = 0; t < kTokens; ++t) x[t] += kGroup;
    codes += kGroupBytes;
    scales += kTileRows;
  }
  for (int half = 0; half < kParts; ++half)
    for (int t = 0; t < kTokens; ++t) keep(p, tile * kTileRows + part + half * kRows, token + t, sums[half][t]);
}

// All parts of a tile that are not taken together.
template <int kTokens>
void all_parts(const PackedProduct& p, int64_t tile, int64_t token) {
  for (int part = 0; part < kTileRows; part += kRows * parts_together(kTokens)) block<kTokens>(p, tile, part, token);
}

// The first tokens bring the tile into the cache, where the next ones find it.
void all_tokens(const PackedProduct& p, int64_t tile) {
  int64_t token = 0;
  for (; token + kMostTokens <= p.n; token += kMostTokens) all_parts<kMostTokens>(p, tile, token);
  if constexpr (kMostTokens > 4) {
    for (; token + 4 <= p.n; token += 4) all_parts<4>(p, tile, token);
  }
  if constexpr (kMostTokens > 2) {
    for (; token + 2 <= p.n; token += 2) all_parts<2>(p, tile, token);
  }
  for (; token < p.n; ++token) all_parts<1>(p, tile, token);
}

}  // namespace

void PACKED_TILES(const PackedProduct& product, int64_t first, int64_t last) {
  for (int64_t tile = first; tile < last; ++tile) all_tokens(product, tile);
}
