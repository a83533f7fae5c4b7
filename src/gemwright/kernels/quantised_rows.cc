// Activations as 8-bit codes, for some blocks of rows. See quantised_rows.h.
//
// CMake compiles this file once for each instruction set, under the name given by QUANTISE_ROWS.
#include "quantised_rows.h"

#include "vectors.h"

namespace {

constexpr int kGroup = 32, kVectors = kGroup / kLanes;
typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));

// Adding it leaves the nearest integer, ties to even, in the lowest bits of a float.
constexpr float kRound = 12582912.0f;  // 1.5 * 2^23

// A group's inputs, whole or filled with zeros.
struct Inputs {
  Floats of[kVectors];
};

inline Inputs whole(const float* from) {
  Inputs x;
  for (int v = 0; v < kVectors; ++v) x.of[v] = load(from + kLanes * v);
  return x;
}

inline Inputs whole(const uint16_t* from) {
  Inputs x;
  for (int v = 0; v < kVectors; ++v) x.of[v] = widen(from + kLanes * v);
  return x;
}

template <class Element>
inline Inputs part(const Element* from, int64_t valid) {
  Element filled[kGroup] = {};
  std::memcpy(filled, from, size_t(valid) * sizeof(Element));
  return whole(filled);
}

// The largest magnitude; not a number if an input is none, or infinite, so that the products are none either.
inline float largest(const Inputs& x) {
  Floats most = {}, wrong = {};
  for (int v = 0; v < kVectors; ++v) {
    const Floats size = x.of[v] < 0.0f ? -x.of[v] : x.of[v];
    most = size > most ? size : most;
    wrong += x.of[v] * 0.0f;
  }
  return folded(most, [](auto a, auto b) { return a > b ? a : b; }) + total(wrong);
}

// Writes the codes and returns their sum.
inline int32_t encode(const Inputs& x, float inverse, int8_t* codes) {
  const Floats round = Floats{} + kRound;
  Integers sum = {};
  for (int v = 0; v < kVectors; ++v) {
    const Integers code = (Integers)(x.of[v] * inverse + round) - (Integers)round;
    sum += code;
    typedef int8_t Bytes __attribute__((vector_size(kLanes)));
    const Bytes bytes = __builtin_convertvector(code, Bytes);
    std::memcpy(codes + kLanes * v, &bytes, sizeof bytes);
  }
  return folded(sum, [](auto a, auto b) { return a + b; });
}

template <class Element>
void block(const QuantisedRows& q, int64_t begin, int64_t first, int64_t last) {
  const int64_t rows = q.n - begin < q.together ? q.n - begin : q.together;
  for (int64_t row = 0; row < rows; ++row) {
    const Element* from = static_cast<const Element*>(q.rows) + (begin + row) * q.in;
    for (int64_t g = first; g < last; ++g) {
      const int64_t left = q.in - g * kGroup, at = begin * q.groups + g * rows + row;
      const Inputs x = left >= kGroup ? whole(from + g * kGroup) : part(from + g * kGroup, left);
      const float scale = largest(x) / 127.0f;
      q.scales[at] = scale;
      q.sums[at] = encode(x, scale > 0 ? 1.0f / scale : 0.0f, q.codes + at * kGroup);
    }
  }
}

}  // namespace

void QUANTISE_ROWS(const QuantisedRows& q, int64_t row, int64_t first, int64_t last) {
  q.narrow ? block<uint16_t>(q, row, first, last) : block<float>(q, row, first, last);
}
