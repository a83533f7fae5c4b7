// The arithmetic of the thin product, compiled once for each instruction set from thin_rows.cc.
#pragma once

#include <cstdint>

struct ThinProduct {
  const float* rows;       // (n, in)
  const uint16_t* matrix;  // (outs, in), bfloat16
  float* out;              // (n, outs)
  int64_t n, in, outs;
};

// Computes the columns [first, last) of `out`.
using ThinRows = void(const ThinProduct& product, int64_t first, int64_t last);

ThinRows thin_rows_portable, thin_rows_avx2, thin_rows_avx512;
