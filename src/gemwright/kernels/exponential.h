// The exponential of vectors, for the files that are compiled once for each instruction set.
#pragma once

#include "vectors.h"

namespace {

constexpr float kLeast = -87.0f;  // its exponential is the smallest normal float

// Of the polynomial for e^x - 1 - x, over x squared (Cephes, expf.c).
constexpr float kCoefficients[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                   4.1665795894e-2f, 1.6666665459e-1f, 0.5f};

// e^x for x <= 0, to about one unit in the last place: 2^n times a polynomial in the rest.
inline Floats exponential(Floats x) {
  x = x > kLeast ? x : Floats{} + kLeast;
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
  const Floats n = shifted - 12582912.0f;
  const Floats rest = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats sum = {};
  for (const float coefficient : kCoefficients) sum = sum * rest + coefficient;
  sum = sum * rest * rest + rest + 1.0f;
  return (Floats)((Words)sum + ((Words)shifted << 23));
}

}  // namespace
