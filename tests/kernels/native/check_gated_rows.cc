// The gate of an MLP for some columns, in place among others.
#include "gated_rows.h"

#include <algorithm>

#include "checks.h"

GateRows gate_rows_plain512;

namespace {

double gelu(double x) { return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }

void check(const Variant<GateRows>& variant, Random& random, int64_t n, int64_t columns, bool narrow) {
  const int64_t width = columns + random.between(0, 15), outs = columns + random.between(0, 9);
  const int shift = int(random.between(0, 3));
  Exact<float> gates(n * width, shift), ups(n * width, shift), wide(narrow ? 0 : n * outs, shift);
  Exact<uint16_t> narrowed(narrow ? n * outs : 0, shift);
  gates.fill([&] { return random.normal(random.between(0, 9) ? 3 : 300); });
  ups.fill([&] { return random.normal(); });
  wide.fill([] { return 7; });
  narrowed.fill([] { return to_bfloat16(7); });
  void* out = narrow ? static_cast<void*>(narrowed.data()) : wide.data();
  variant.function({gates.data(), ups.data(), out, narrow, n, width, outs, columns});
  for (int64_t t = 0; t < n; ++t) {
    for (int64_t i = 0; i < outs; ++i) {
      const double up = ups[t * width + std::min(i, width - 1)];
      const double expected = i < columns ? gelu(gates[t * width + i]) * up : 7;
      const double tolerance = std::abs(expected) * (narrow ? 0x1.01p-8 : 16 * kUnit) + 1e-6 * std::abs(up);
      const std::string where = std::string("gated_rows ") + variant.name + " (" + std::to_string(n) + ", " +
                                std::to_string(columns) + ")" + (narrow ? " to bfloat16" : "");
      expect_near(where, narrow ? from_bfloat16(narrowed[t * outs + i]) : wide[t * outs + i], expected, tolerance);
    }
  }
}

}  // namespace

void check_gated_rows() {
  for_each_variant(gate_rows_portable, gate_rows_avx2, gate_rows_avx512, gate_rows_plain512, [](const auto& variant) {
    Random random(7);
    for (int i = 0; i < 60; ++i) check(variant, random, random.between(1, 5), random.between(1, 70), i % 2 == 0);
  });
}
