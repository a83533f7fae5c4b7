// Vectors of floats for one instruction set, included by the files that are compiled once for each.
//
// The vector types of the compiler are used rather than intrinsics, so that all levels are one text; but
// GCC 12 widens by three instructions where one would do, so that one is named.
// Nothing of the standard library but memcpy may be used beside it: an inline function compiled for
// AVX-512 could be the copy of it that the linker keeps for everyone. So all here is without linkage.
#pragma once

#include <cstdint>
#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

#if defined(__AVX512F__)
constexpr int kLanes = 16;
#elif defined(__AVX2__)
constexpr int kLanes = 8;
#else
constexpr int kLanes = 4;
#endif

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));
typedef int8_t Bytes __attribute__((vector_size(kLanes)));

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
}

inline void store(float* to, Floats values) { std::memcpy(to, &values, sizeof values); }

// As bfloat16: to the nearest, ties to even; what arithmetic makes of a value that is not a number stays none.
inline void store(uint16_t* to, Floats values) {
  const Words words = (Words)values, rounded = (words + 0x7fff + ((words >> 16) & 1)) >> 16;
  const Halves halves = __builtin_convertvector(rounded, Halves);
  std::memcpy(to, &halves, sizeof halves);
}

// A bfloat16 is the upper half of a float.
inline Floats widen(const uint16_t* from) {
  Halves halves;
  std::memcpy(&halves, from, sizeof halves);
#if defined(__AVX512F__)
  const Words words = (Words)_mm512_maskz_cvtepu16_epi32(0xffff, (__m256i)halves);  // unmasked, GCC 12 warns
#elif defined(__AVX2__)
  const Words words = (Words)_mm256_cvtepu16_epi32((__m128i)halves);
#else
  const Words words = __builtin_convertvector(halves, Words);
#endif
  return (Floats)(words << 16);
}

inline float widen_one(uint16_t half) {
  const uint32_t word = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline Floats widen(const float* from) { return load(from); }

inline float widen_one(float value) { return value; }

inline Floats widen(const int8_t* from) {
#if defined(__AVX512F__)
  __m128i bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return (Floats)_mm512_maskz_cvtepi32_ps(0xffff, _mm512_maskz_cvtepi8_epi32(0xffff, bytes));
#elif defined(__AVX2__)
  return (Floats)_mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i*)from)));
#else
  Bytes bytes;
  std::memcpy(&bytes, from, sizeof bytes);
  return __builtin_convertvector(bytes, Floats);
#endif
}

inline float widen_one(int8_t value) { return float(value); }

// All lanes put together two at a time, by a function of vectors and of their elements: halves first, so that few
// steps wait for each other.
template <class Vector, class Two>
inline auto folded(Vector values, Two two) {
  typedef decltype(values[0] + values[0]) Element;
  typedef Element Four __attribute__((vector_size(16)));
  Four parts[kLanes / 4];
  std::memcpy(parts, &values, sizeof parts);
  for (int half = kLanes / 8; half > 0; half /= 2)
    for (int i = 0; i < half; ++i) parts[i] = two(parts[i], parts[i + half]);
  const Four last = parts[0];
  return two(two(last[0], last[2]), two(last[1], last[3]));
}

inline float total(Floats values) {
  return folded(values, [](auto a, auto b) { return a + b; });
}

}  // namespace
