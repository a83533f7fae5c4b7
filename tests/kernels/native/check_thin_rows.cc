// The thin product, a range of columns at a time.
#include "thin_rows.h"

#include "checks.h"

ThinRows thin_rows_plain512;

namespace {

void check(const Variant<ThinRows>& variant, Random& random, int64_t n, int64_t in, int64_t outs) {
  const int shift = int(random.between(0, 3));
  Exact<float> rows(n * in, shift), out(n * outs, shift);
  Exact<uint16_t> matrix(outs * in, shift);
  rows.fill([&] { return random.normal(); });
  matrix.fill([&] { return to_bfloat16(random.normal()); });
  out.fill([] { return NAN; });
  const ThinProduct product{rows.data(), matrix.data(), out.data(), n, in, outs};
  const int64_t middle = random.between(0, outs);
  variant.function(product, 0, middle);
  variant.function(product, middle, outs);
  for (int64_t r = 0; r < n; ++r) {
    for (int64_t o = 0; o < outs; ++o) {
      double sum = 0, sizes = 0;
      for (int64_t i = 0; i < in; ++i) {
        const double term = double(rows[r * in + i]) * from_bfloat16(matrix[o * in + i]);
        sum += term;
        sizes += std::abs(term);
      }
      const std::string where = std::string("thin_rows ") + variant.name + " (" + std::to_string(n) + ", " +
                                std::to_string(in) + ", " + std::to_string(outs) + ")";
      expect_near(where, out[r * outs + o], sum, double(in + 2) * kUnit * sizes);
    }
  }
}

}  // namespace

void check_thin_rows() {
  for_each_variant(thin_rows_portable, thin_rows_avx2, thin_rows_avx512, thin_rows_plain512, [](const auto& variant) {
    Random random(1);
    for (const int64_t in : {1, 3, 15, 16, 17, 64}) check(variant, random, 1, in, 1);
    for (int i = 0; i < 60; ++i)
      check(variant, random, random.between(1, 9), random.between(1, 90), random.between(1, 14));
  });
}
