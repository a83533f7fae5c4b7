// Intel's AVX-512 intrinsics that the kernels use, lane by lane in plain C++, for machines without these instructions.
//
// The compiler is told to include this before a kernel (`-include`), with no instruction set switched on: the kernel
// then compiles its AVX-512 text against these functions. A kernel that begins to use another intrinsic does not
// compile until it stands here; its meaning is to be taken from Intel's Intrinsics Guide ("Operation").
#pragma once

#if defined(__AVX__)
#error "avx512_in_plain_cpp.h replaces the intrinsics: compile without instruction sets beyond the basic one"
#endif

#include <cstdint>
#include <cstring>

#define __AVX512F__ 1
#define __AVX512BW__ 1
#define __AVX512VNNI__ 1

namespace plain {

typedef float Floats __attribute__((vector_size(64)));
typedef long long Bits __attribute__((vector_size(64)));
typedef long long HalfBits __attribute__((vector_size(32)));

typedef long long QuarterBits __attribute__((vector_size(16)));

typedef uint8_t Bytes __attribute__((vector_size(64)));
typedef int8_t SignedBytes __attribute__((vector_size(64)));
typedef uint16_t Words __attribute__((vector_size(64)));
typedef uint16_t HalfWords __attribute__((vector_size(32)));
typedef uint32_t Doubles __attribute__((vector_size(64)));

constexpr int kLanes = 16;  // of 32 bits

inline bool kept(uint16_t mask, int lane) { return mask >> lane & 1; }

template <class Vector>
inline Vector loaded(const void* from) {
  Vector bits;
  std::memcpy(&bits, from, sizeof bits);
  return bits;
}

// A float16 in full: subnormal, infinite and not a number too.
inline float widened(uint16_t half) {
  const uint32_t exponent = half >> 10 & 31, fraction = half & 1023;
  float size;
  if (exponent == 0) {
    size = float(fraction) * 0x1p-24f;
  } else {
    const uint32_t word = (exponent == 31 ? 255 : exponent + 112) << 23 | fraction << 13;
    std::memcpy(&size, &word, sizeof size);
  }
  return half >> 15 ? -size : size;
}

inline Floats set1_ps(float value) { return Floats{} + value; }
inline Bits set1_epi32(int32_t value) { return (Bits)(Doubles{} + uint32_t(value)); }
inline Bits set1_epi8(int8_t value) { return (Bits)(Bytes{} + uint8_t(value)); }
inline void storeu_ps(void* to, Floats values) { std::memcpy(to, &values, sizeof values); }

inline Floats fmadd_ps(Floats a, Floats b, Floats c) {
  for (int lane = 0; lane < kLanes; ++lane) c[lane] = __builtin_fmaf(a[lane], b[lane], c[lane]);
  return c;
}

inline Bits srli_epi16(Bits a, unsigned count) { return count > 15 ? Bits{} : (Bits)((Words)a >> uint16_t(count)); }

// Each byte of `a`, unsigned, times that of `b`, signed; four products to a lane, which wraps and does not saturate.
inline Bits dpbusd_epi32(Bits sums, Bits a, Bits b) {
  const Bytes codes = (Bytes)a;
  const SignedBytes factors = (SignedBytes)b;
  Doubles out = (Doubles)sums;
  for (int byte = 0; byte < 64; ++byte) out[byte / 4] += uint32_t(int32_t(codes[byte]) * int32_t(factors[byte]));
  return (Bits)out;
}

inline Floats maskz_cvtepi32_ps(uint16_t mask, Bits a) {
  const Doubles words = (Doubles)a;
  Floats out = {};
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = kept(mask, lane) ? float(int32_t(words[lane])) : 0.0f;
  return out;
}

inline Floats maskz_cvtph_ps(uint16_t mask, HalfBits a) {
  const HalfWords halves = (HalfWords)a;
  Floats out = {};
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = kept(mask, lane) ? widened(halves[lane]) : 0.0f;
  return out;
}

inline Bits maskz_cvtepu16_epi32(uint16_t mask, HalfBits a) {
  const HalfWords halves = (HalfWords)a;
  Doubles out = {};
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = kept(mask, lane) ? halves[lane] : 0;
  return (Bits)out;
}

inline Bits maskz_cvtepi8_epi32(uint16_t mask, QuarterBits a) {
  typedef int8_t QuarterBytes __attribute__((vector_size(16)));
  const QuarterBytes bytes = (QuarterBytes)a;
  Doubles out = {};
  for (int lane = 0; lane < kLanes; ++lane) out[lane] = kept(mask, lane) ? uint32_t(int32_t(bytes[lane])) : 0;
  return (Bits)out;
}

inline float widened_bfloat16(uint32_t half) {
  const uint32_t word = half << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

// Pairs of bfloat16, the upper products first. The instruction takes subnormal numbers for zeros; this does not.
inline Floats dpbf16_ps(Floats sums, Bits a, Bits b) {
  const Doubles left = (Doubles)a, right = (Doubles)b;
  for (int lane = 0; lane < kLanes; ++lane)
    for (int shift = 16; shift >= 0; shift -= 16)
      sums[lane] = __builtin_fmaf(widened_bfloat16(left[lane] >> shift & 0xffff),
                                  widened_bfloat16(right[lane] >> shift & 0xffff), sums[lane]);
  return sums;
}

inline Bits permutex2var_epi32(Bits a, Bits order, Bits b) {
  const Doubles one = (Doubles)a, other = (Doubles)b, from = (Doubles)order;
  Doubles out = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    const uint32_t place = from[lane] % kLanes;
    out[lane] = from[lane] & kLanes ? other[place] : one[place];
  }
  return (Bits)out;
}

// To the nearest, ties to even.
inline uint16_t narrowed(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return value == value ? uint16_t((word + 0x7fff + (word >> 16 & 1)) >> 16) : uint16_t(word >> 16 | 64);
}

inline Bits cvtne2ps_pbh(Floats upper, Floats lower) {
  Words out = {};
  for (int lane = 0; lane < kLanes; ++lane) {
    out[lane] = narrowed(lower[lane]);
    out[lane + kLanes] = narrowed(upper[lane]);
  }
  return (Bits)out;
}

inline Bits maskz_permutexvar_epi16(uint32_t mask, Bits order, Bits a) {
  const Words from = (Words)order, values = (Words)a;
  Words out = {};
  for (int lane = 0; lane < 2 * kLanes; ++lane) out[lane] = mask >> lane & 1 ? values[from[lane] % 32] : 0;
  return (Bits)out;
}

inline void storeu_si512(void* to, Bits values) { std::memcpy(to, &values, sizeof values); }

inline Bits add_epi32(Bits a, Bits b) { return (Bits)((Doubles)a + (Doubles)b); }

}  // namespace plain

#define __m512 plain::Floats
#define __m512i plain::Bits
#define __m512bh plain::Bits
#define __m256i plain::HalfBits
#define __m128i plain::QuarterBits

#define _mm256_loadu_si256(from) plain::loaded<plain::HalfBits>(from)
#define _mm512_loadu_si512(from) plain::loaded<plain::Bits>(from)
#define _mm512_load_si512(from) plain::loaded<plain::Bits>(from)
#define _mm512_storeu_ps plain::storeu_ps
#define _mm512_storeu_si512 plain::storeu_si512
#define _mm512_cvtne2ps_pbh plain::cvtne2ps_pbh
#define _mm512_maskz_permutexvar_epi16 plain::maskz_permutexvar_epi16
#define _mm512_setzero_ps() plain::Floats{}
#define _mm512_setzero_si512() plain::Bits{}
#define _mm512_add_epi32 plain::add_epi32
#define _mm512_set1_ps plain::set1_ps
#define _mm512_set1_epi8 plain::set1_epi8
#define _mm512_set1_epi32 plain::set1_epi32
#define _mm512_and_si512(a, b) ((a) & (b))
#define _mm512_xor_si512(a, b) ((a) ^ (b))
#define _mm512_mul_ps(a, b) ((a) * (b))
#define _mm512_srli_epi16 plain::srli_epi16
#define _mm512_permutex2var_epi32 plain::permutex2var_epi32
#define _mm512_dpbf16_ps plain::dpbf16_ps
#define _mm512_dpbusd_epi32 plain::dpbusd_epi32
#define _mm512_fmadd_ps plain::fmadd_ps
#define _mm512_maskz_cvtepi32_ps plain::maskz_cvtepi32_ps
#define _mm512_maskz_cvtph_ps plain::maskz_cvtph_ps
#define _mm512_maskz_cvtepi8_epi32 plain::maskz_cvtepi8_epi32
#define _mm512_maskz_cvtepu16_epi32 plain::maskz_cvtepu16_epi32
