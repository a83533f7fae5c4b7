// The gate of an MLP. See gated_rows.h.
//
// CMake compiles this file once for each instruction set, under the name given by GATE_ROWS.
#include "gated_rows.h"

#include "gelu.h"
#include "vectors.h"

namespace {

inline Floats gated(Floats gate, Floats up) { return gate * gelu_share(gate) * up; }

template <class Element>
void row(const float* gates, const float* ups, int64_t columns, Element* out) {
  int64_t i = 0;
  for (; i + kLanes <= columns; i += kLanes) store(out + i, gated(load(gates + i), load(ups + i)));
  if (i == columns) return;
  float gate[kLanes] = {}, up[kLanes] = {};
  Element last[kLanes];
  const size_t left = size_t(columns - i);
  std::memcpy(gate, gates + i, left * sizeof(float));
  std::memcpy(up, ups + i, left * sizeof(float));
  store(last, gated(load(gate), load(up)));
  std::memcpy(out + i, last, left * sizeof(Element));
}

template <class Element>
void all_rows(const GatedRows& g) {
  for (int64_t t = 0; t < g.n; ++t)
    row(g.gates + t * g.width, g.ups + t * g.width, g.columns, static_cast<Element*>(g.out) + t * g.outs);
}

}  // namespace

void GATE_ROWS(const GatedRows& g) { g.narrow ? all_rows<uint16_t>(g) : all_rows<float>(g); }
