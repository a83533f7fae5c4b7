// The gate of an MLP, gelu(gate) * up, compiled once for each instruction set from gated_rows.cc.
#pragma once

#include <cstdint>

// Some of the columns of all rows.
struct GatedRows {
  const float *gates, *ups;  // (n, width)
  void* out;                 // the first of these columns in (n, outs), float or bfloat16
  bool narrow;               // whether out is bfloat16
  int64_t n, width, outs;
  int64_t columns;           // at most the width: what is left over fills the last tile
};

using GateRows = void(const GatedRows& rows);

GateRows gate_rows_portable, gate_rows_avx2, gate_rows_avx512;
