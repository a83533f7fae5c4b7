// gelu(gate) * up of many values, and its derivatives, compiled once for each instruction set from gate_values.cc.
#pragma once

#include <cstdint>

struct GateValues {
  const void *gates, *ups;  // `count` values
  bool narrow;              // whether all are bfloat16, else float32
  int64_t count;
};

using Gate = void(const GateValues& values, void* out);
using GateBack = void(const GateValues& values, const void* out_gradient, void* gate_gradient, void* up_gradient);

Gate gate_values_portable, gate_values_avx2, gate_values_avx512;
GateBack gate_values_back_portable, gate_values_back_avx2, gate_values_back_avx512;
