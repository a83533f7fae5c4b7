// out[r, o] = sum_i rows[r, i] * matrix[o, i] for a range of o.
//
// CMake compiles this file once for each instruction set, under the name given by THIN_ROWS. The
// vector types of the compiler are used rather than intrinsics, so that all levels are one text; but
// GCC 12 widens by three instructions where one would do, so that one is named.
// Nothing of the standard library but memcpy may be used here: an inline function compiled for
// AVX-512 could be the copy of it that the linker keeps for everyone.
#include "thin_rows.h"

#include <cstring>
#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace {

// kTogether activation rows and kBlock weight rows are multiplied at once: a loaded vector is used
// several times, and all sums stay in registers (32 of them with AVX-512, else 16).
#if defined(__AVX512F__)
constexpr int kLanes = 16, kTogether = 4;
#elif defined(__AVX2__)
constexpr int kLanes = 8, kTogether = 2;
#else
constexpr int kLanes = 4, kTogether = 2;
#endif
constexpr int kBlock = 4;

typedef float Floats __attribute__((vector_size(4 * kLanes)));
typedef uint32_t Words __attribute__((vector_size(4 * kLanes)));
typedef uint16_t Halves __attribute__((vector_size(2 * kLanes)));

inline Floats load(const float* from) {
  Floats values;
  std::memcpy(&values, from, sizeof values);
  return values;
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

template <int kOuts, int kRows>
void tile(const ThinProduct& product, int64_t row, int64_t out) {
  const int64_t in = product.in;
  const float* rows = product.rows + row * in;
  const uint16_t* matrix = product.matrix + out * in;
  Floats sums[kOuts][kRows] = {};
  int64_t i = 0;
  for (; i + kLanes <= in; i += kLanes) {
    Floats x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = load(rows + r * in + i);
    for (int o = 0; o < kOuts; ++o) {
      // The next block's rows: the processor's own prefetching stops at the end of each page.
      __builtin_prefetch(matrix + (o + kOuts) * in + i);
      const Floats weights = widen(matrix + o * in + i);
      for (int r = 0; r < kRows; ++r) sums[o][r] += weights * x[r];
    }
  }
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r) {
      float total = 0;
      for (int lane = 0; lane < kLanes; ++lane) total += sums[o][r][lane];
      for (int64_t j = i; j < in; ++j) total += widen_one(matrix[o * in + j]) * rows[r * in + j];
      product.out[(row + r) * product.outs + out + o] = total;
    }
  }
}

// The first tile brings the block of weights into the cache, where the next ones find it: memory
// is read once for all rows.
template <int kOuts>
void all_rows(const ThinProduct& product, int64_t out) {
  int64_t row = 0;
  for (; row + kTogether <= product.n; row += kTogether) tile<kOuts, kTogether>(product, row, out);
  for (; row + 2 <= product.n; row += 2) tile<kOuts, 2>(product, row, out);
  if (row < product.n) tile<kOuts, 1>(product, row, out);
}

}  // namespace

void THIN_ROWS(const ThinProduct& product, int64_t first, int64_t last) {
  int64_t out = first;
  for (; out + kBlock <= last; out += kBlock) all_rows<kBlock>(product, out);
  for (; out < last; ++out) all_rows<1>(product, out);
}
