// gelu by its tanh, for the files that are compiled once for each instruction set.
#pragma once

#include "exponential.h"
#include "vectors.h"

namespace {

// gelu(x) = x * share; `slope` is its derivative.
struct Gelu {
  Floats share, slope;
};

// The share is (1 + tanh(u)) / 2, which is 1 / (1 + e^-2u): from the exponential of a number that is never positive.
inline Floats gelu_share(Floats x) {
  const Floats u = 0.7978845608f * (x + 0.044715f * x * x * x);
  const Floats small = exponential(u < 0.0f ? 2.0f * u : -2.0f * u);
  return (u < 0.0f ? small : Floats{} + 1.0f) / (1.0f + small);
}

inline Gelu gelu(Floats x) {
  x = x < -1.0e4f ? Floats{} - 1.0e4f : x;  // further out the cube of x outgrows the least exponential
  const Floats share = gelu_share(x), twice_slope_of_u = 1.5957691216f * (1.0f + 0.134145f * x * x);
  return {share, share + x * share * (1.0f - share) * twice_slope_of_u};
}

}  // namespace
