// Activations as 8-bit codes, in the order in which packed_tiles.cc reads them; compiled once for each
// instruction set from quantised_rows.cc.
#pragma once

#include <cstdint>

// Each 32 inputs of a row share the scale that makes the largest of them 127; the last ones are filled
// with zeros. Rows stand in blocks, the last one of what remains: group by group, in each row by row.
struct QuantisedRows {
  const void* rows;   // (n, in), float or bfloat16
  bool narrow;        // whether rows are bfloat16
  int8_t* codes;      // (n, groups, 32), within [-127, 127]
  float* scales;      // (n, groups)
  int32_t* sums;      // (n, groups), of the codes
  int64_t n, in, groups;
  int64_t together;   // rows of a block
};

// Computes the groups [first, last) of the block that begins with `row`.
using QuantiseRows = void(const QuantisedRows& rows, int64_t row, int64_t first, int64_t last);

QuantiseRows quantise_rows_portable, quantise_rows_avx2, quantise_rows_avx512;
