// The exponential of vectors, for the files that are compiled once for each instruction set.
#pragma once

#include "vectors.h"

namespace {

constexpr float kLeast = -87.0f;  // its exponential is the smallest normal float

// Of the polynomial for e^x - 1 - x, over x squared (Cephes, expf.c).
constexpr float kCoefficients[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                   4.1665795894e-2f, 1.6666665459e-1f, 0.5f};

// e^x = 2^n * (1 + less_one), where `power` is n in the place of a float's exponent.
struct Exponential {
  Floats less_one;
  Words power;
};

inline Exponential split(Floats x) {
  x = x > kLeast ? x : Floats{} + kLeast;
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
  const Floats n = shifted - 12582912.0f;
  const Floats rest = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats sum = {};
  for (const float coefficient : kCoefficients) sum = sum * rest + coefficient;
  return {sum * rest * rest + rest, (Words)shifted << 23};
}

// e^x for x <= 0, to about one unit in the last place.
inline Floats exponential(Floats x) {
  const Exponential e = split(x);
  return (Floats)((Words)(e.less_one + 1.0f) + e.power);
}

// x bent smoothly into (-cap, cap): tanh from the exponential of a number that is never positive.
inline Floats capped(Floats x, float cap) {
  const Floats size = x < 0.0f ? -x : x;
  const Floats small = exponential(size * (-2.0f / cap));
  const Floats bent = (1.0f - small) / (1.0f + small) * cap;
  return x < 0.0f ? -bent : x == x ? bent : x;
}

// 1 - e^x for x <= 0, as exact near 0 as far from it.
inline Floats one_less_exponential(Floats x) {
  const Exponential e = split(x);
  const Floats scale = (Floats)((Words)(Floats{} + 1.0f) + e.power);
  return (1.0f - scale) - scale * e.less_one;
}

}  // namespace
