// The gate of an MLP. See gated_rows.h.
//
// CMake compiles this file once for each instruction set, under the name given by GATE_ROWS.
#include "gated_rows.h"

#include "exponential.h"
#include "vectors.h"

namespace {

// x times (1 + tanh(u)) / 2, which is 1 / (1 + e^-2u): from the exponential of a number that is never positive.
inline Floats gelu(Floats x) {
  const Floats u = 0.7978845608f * (x + 0.044715f * x * x * x);
  const Floats small = exponential(u < 0.0f ? 2.0f * u : -2.0f * u);
  return x * (u < 0.0f ? small : Floats{} + 1.0f) / (1.0f + small);
}

template <class Element>
void row(const float* gates, const float* ups, int64_t columns, Element* out) {
  int64_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) store(out + i, gelu(load(gates + i)) * load(ups + i));
  if (i == columns) return;
  float gate[kLanes] = {}, up[kLanes] = {};
  Element last[kLanes];
  const size_t left = size_t(columns - i);
  std::memcpy(gate, gates + i, left * sizeof(float));
  std::memcpy(up, ups + i, left * sizeof(float));
  store(last, gelu(load(gate)) * load(up));
  std::memcpy(out + i, last, left * sizeof(Element));
}

template <class Element>
void all_rows(const GatedRows& g) {
  for (int64_t t = 0; t < g.n; ++t)
    row(g.gates + t * g.width, g.ups + t * g.width, g.columns, static_cast<Element*>(g.out) + t * g.outs);
}

}  // namespace

void GATE_ROWS(const GatedRows& g) { g.narrow ? all_rows<uint16_t>(g) : all_rows<float>(g); }
