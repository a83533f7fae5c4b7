// gelu(gate) * up and its derivatives, each value read and rounded once.
//
// CMake compiles this file once for each instruction set, under the names given by GATE_VALUES and GATE_VALUES_BACK.
#include "gate_values.h"

#include "gelu.h"
#include "vectors.h"

namespace {

template <class Number>
void some(const Number* gates, const Number* ups, Number* out) {
  const Floats gate = widen(gates);
  store(out, gate * gelu_share(gate) * widen(ups));
}

template <class Number>
void some_back(const Number* gates, const Number* ups, const Number* gradients, Number* to_gates, Number* to_ups) {
  const Floats gate = widen(gates), gradient = widen(gradients);
  const Gelu found = gelu(gate);
  store(to_gates, gradient * widen(ups) * found.slope);
  store(to_ups, gradient * gate * found.share);
}

template <class Number>
void all(const GateValues& v, Number* out) {
  const Number *gates = static_cast<const Number*>(v.gates), *ups = static_cast<const Number*>(v.ups);
  int64_t i = 0;
  for (; i + kLanes <= v.count; i += kLanes) some(gates + i, ups + i, out + i);
  if (i == v.count) return;
  const size_t left = size_t(v.count - i) * sizeof(Number);
  Number gate[kLanes] = {}, up[kLanes] = {}, last[kLanes];
  std::memcpy(gate, gates + i, left);
  std::memcpy(up, ups + i, left);
  some(gate, up, last);
  std::memcpy(out + i, last, left);
}

template <class Number>
void all_back(const GateValues& v, const Number* gradients, Number* to_gates, Number* to_ups) {
  const Number *gates = static_cast<const Number*>(v.gates), *ups = static_cast<const Number*>(v.ups);
  int64_t i = 0;
  for (; i + kLanes <= v.count; i += kLanes) some_back(gates + i, ups + i, gradients + i, to_gates + i, to_ups + i);
  if (i == v.count) return;
  const size_t left = size_t(v.count - i) * sizeof(Number);
  Number gate[kLanes] = {}, up[kLanes] = {}, gradient[kLanes] = {}, to_gate[kLanes], to_up[kLanes];
  std::memcpy(gate, gates + i, left);
  std::memcpy(up, ups + i, left);
  std::memcpy(gradient, gradients + i, left);
  some_back(gate, up, gradient, to_gate, to_up);
  std::memcpy(to_gates + i, to_gate, left);
  std::memcpy(to_ups + i, to_up, left);
}

}  // namespace

void GATE_VALUES(const GateValues& values, void* out) {
  if (values.narrow) all(values, static_cast<uint16_t*>(out));
  else all(values, static_cast<float*>(out));
}

void GATE_VALUES_BACK(const GateValues& values, const void* out_gradient, void* gate_gradient, void* up_gradient) {
  if (values.narrow)
    all_back(values, static_cast<const uint16_t*>(out_gradient), static_cast<uint16_t*>(gate_gradient),
             static_cast<uint16_t*>(up_gradient));
  else
    all_back(values, static_cast<const float*>(out_gradient), static_cast<float*>(gate_gradient),
             static_cast<float*>(up_gradient));
}
