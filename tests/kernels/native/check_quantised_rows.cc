// Activations as 8-bit codes, some blocks of rows at a time.
#include "quantised_rows.h"

#include <algorithm>

#include "checks.h"

QuantiseRows quantise_rows_plain512;

namespace {

constexpr int kGroup = 32;

struct Shape {
  int64_t n, in, together;
  bool narrow;
};

class Problem {
 public:
  Problem(const Shape& shape, Random& random)
      : shape_(shape),
        groups_((shape.in + kGroup - 1) / kGroup),
        wide_(shape.narrow ? 0 : shape.n * shape.in, int(random.between(0, 3))),
        narrow_(shape.narrow ? shape.n * shape.in : 0, int(random.between(0, 3))),
        codes_(shape.n * groups_ * kGroup, int(random.between(0, 3))),
        scales_(shape.n * groups_),
        sums_(shape.n * groups_) {
    const float size = random.between(0, 5) ? 1.0f : 0.0f;  // rows of nothing but zeros too
    wide_.fill([&] { return random.normal(3) * size; });
    narrow_.fill([&] { return to_bfloat16(random.normal(3) * size); });
  }

  void compute(QuantiseRows* function, Random& random) {
    const void* rows = shape_.narrow ? static_cast<const void*>(narrow_.data()) : wide_.data();
    const QuantisedRows task{rows,          shape_.narrow, codes_.data(), scales_.data(), sums_.data(),
                             shape_.n,      shape_.in,     groups_,       shape_.together};
    for (int64_t row = 0; row < shape_.n; row += shape_.together) {
      const int64_t middle = random.between(0, groups_);
      function(task, row, 0, middle);
      function(task, row, middle, groups_);
    }
  }

  void expect(const std::string& where) {
    for (int64_t row = 0; row < shape_.n; ++row)
      for (int64_t group = 0; group < groups_; ++group) expect_group(where, row, group);
  }

 private:
  double input(int64_t row, int64_t i) {
    if (i >= shape_.in) return 0;
    return shape_.narrow ? from_bfloat16(narrow_[row * shape_.in + i]) : wide_[row * shape_.in + i];
  }

  void expect_group(const std::string& where, int64_t row, int64_t group) {
    const int64_t first = row / shape_.together * shape_.together, rows = std::min(shape_.together, shape_.n - first);
    const int64_t at = first * groups_ + group * rows + (row - first);
    double largest = 0;
    int sum = 0;
    for (int i = 0; i < kGroup; ++i) largest = std::max(largest, std::abs(input(row, group * kGroup + i)));
    const double scale = scales_[at];
    expect_near(where + " scale", scale, largest / 127, 2 * kUnit * largest);
    for (int i = 0; i < kGroup; ++i) {
      const int code = codes_[at * kGroup + i];
      sum += code;
      expect_near(where + " code", code * scale, input(row, group * kGroup + i), scale * (0.5 + 1e-4));
      expect_near(where + " size of a code", std::abs(code) <= 127, 1, 0);
    }
    expect_near(where + " sum", sums_[at], sum, 0);
  }

  Shape shape_;
  int64_t groups_;
  Exact<float> wide_;
  Exact<uint16_t> narrow_;
  Exact<int8_t> codes_;
  Exact<float> scales_;
  Exact<int32_t> sums_;
};

}  // namespace

void check_quantised_rows() {
  for_each_variant(quantise_rows_portable, quantise_rows_avx2, quantise_rows_avx512, quantise_rows_plain512,
                   [](const auto& variant) {
    Random random(3);
    for (int i = 0; i < 80; ++i) {
      const Shape shape{random.between(1, 12), random.between(1, 150), random.between(1, 8), random.between(0, 1) == 1};
      Problem problem(shape, random);
      problem.compute(variant.function, random);
      problem.expect(std::string("quantised_rows ") + variant.name + " (" + std::to_string(shape.n) + ", " +
                     std::to_string(shape.in) + ")");
    }
  });
}
