// The gate of an MLP and its derivatives, of arrays that are no multiple of a vector.
#include "gate_values.h"

#include <string>

#include "checks.h"

Gate gate_values_plain512;
GateBack gate_values_back_plain512;

namespace {

double share(double x) { return 0.5 * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }

double slope(double x) {
  const double whole = share(x);
  return whole + x * whole * (1 - whole) * 1.5957691216057308 * (1 + 0.134145 * x * x);
}

float number(float value) { return value; }
float number(uint16_t value) { return from_bfloat16(value); }

template <class Number>
Number stored(float value) {
  if constexpr (sizeof(Number) == 2) return to_bfloat16(value);
  else return value;
}

struct Both {
  Gate* forward;
  GateBack* back;
};

template <class Number>
void check(const Variant<const Both>& variant, Random& random, int64_t count) {
  const int shift = int(random.between(0, 3));
  Exact<Number> gates(count, shift), ups(count, shift), by(count, shift);
  Exact<Number> out(count, shift), to_gates(count, shift), to_ups(count, shift);
  gates.fill([&] { return stored<Number>(random.normal(random.between(0, 9) ? 3 : 300)); });
  for (auto* values : {&ups, &by}) values->fill([&] { return stored<Number>(random.normal()); });
  for (auto* values : {&out, &to_gates, &to_ups}) values->fill([] { return stored<Number>(NAN); });
  const GateValues values{gates.data(), ups.data(), sizeof(Number) == 2, count};
  variant.function->forward(values, out.data());
  variant.function->back(values, by.data(), to_gates.data(), to_ups.data());
  const std::string where = std::string("gate_values ") + variant.name + " of " + std::to_string(count) +
                            (sizeof(Number) == 2 ? " bfloat16" : " floats");
  for (int64_t i = 0; i < count; ++i) {
    const double gate = number(gates[i]), up = number(ups[i]), gradient = number(by[i]);
    const auto expect = [&](const char* what, Number found, double expected, double factor) {
      const double rounding = std::abs(expected) * (sizeof(Number) == 2 ? 0x1.01p-8 : 16 * kUnit);
      expect_near(where + what, number(found), expected, rounding + 1e-6 * std::abs(factor));
    };
    expect("", out[i], gate * share(gate) * up, up);
    expect(", to ups", to_ups[i], gradient * gate * share(gate), gradient);
    // Where the share is near 1 its distance from 1 is multiplied by up to some 30.
    expect(", to gates", to_gates[i], gradient * up * slope(gate), 3 * gradient * up);
  }
}

}  // namespace

void check_gate_values() {
  const Both portable{gate_values_portable, gate_values_back_portable}, avx2{gate_values_avx2, gate_values_back_avx2},
      avx512{gate_values_avx512, gate_values_back_avx512}, plain512{gate_values_plain512, gate_values_back_plain512};
  for_each_variant(&portable, &avx2, &avx512, &plain512, [](const auto& variant) {
    Random random(9);
    for (int64_t count = 0; count < 70; ++count) {
      check<float>(variant, random, count);
      check<uint16_t>(variant, random, count);
    }
  });
}
