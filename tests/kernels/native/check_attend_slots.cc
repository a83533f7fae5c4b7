// Attention of some tokens of a row over a part of its slots.
#include "attend_slots.h"

#include <algorithm>
#include <vector>

#include "checks.h"

AttendSlots attend_slots_plain512;

namespace {

struct Shape {
  int64_t rows, slots, groups, heads, size, window;
  float cap;
  int64_t tokens;
};

// Keys or values of one cell, and as numbers.
template <class Number>
class Cells {
 public:
  Cells(int64_t count, int64_t size, Random& random)
      : stored(count * size, int(random.between(0, 3))), scales(count), size_(size) {
    scales.fill([&] { return float(random.between(1, 9)) / 400; });
    if constexpr (sizeof(Number) == 1) stored.fill([&] { return random.between(-127, 127); });
    if constexpr (sizeof(Number) == 2) stored.fill([&] { return to_bfloat16(random.normal()); });
    if constexpr (sizeof(Number) == 4) stored.fill([&] { return random.normal(); });
  }

  double at(int64_t place, int64_t i) {
    const Number number = stored[place * size_ + i];
    if constexpr (sizeof(Number) == 1) return double(number) * double(scales[place]);
    if constexpr (sizeof(Number) == 2) return from_bfloat16(number);
    return double(number);
  }

  Exact<Number> stored;
  Exact<float> scales;

 private:
  int64_t size_;
};

template <class Number>
class Problem {
 public:
  Problem(const Shape& shape, Random& random)
      : shape_(shape),
        queries_(shape.tokens * shape.groups * shape.heads * shape.size, int(random.between(0, 3))),
        keys_(shape.rows * shape.slots * shape.groups, shape.size, random),
        values_(shape.rows * shape.slots * shape.groups, shape.size, random),
        at_(shape.tokens),
        positions_(shape.rows * shape.slots) {
    queries_.fill([&] { return random.normal(2.0f / std::sqrt(float(shape.size))); });
    at_.fill([&] { return random.between(-1, shape.slots); });
    positions_.fill([&] { return random.between(0, 3) ? random.between(0, shape.slots) : -1; });
  }

  void check_parts(Cell cell, const Variant<AttendSlots>& variant, Random& random) {
    const SlotAttention attention{queries_.data(),       keys_.stored.data(),   values_.stored.data(),
                                  keys_.scales.data(),   values_.scales.data(), at_.data(),
                                  positions_.data(),     cell,                  shape_.slots,
                                  shape_.groups,         shape_.heads,          shape_.size,
                                  shape_.window,         shape_.cap};
    for (int64_t row = 0; row < shape_.rows; ++row) {
      for (int64_t group = 0; group < shape_.groups; ++group) {
        const int64_t first = random.between(0, shape_.slots);
        const int64_t last = std::min(shape_.slots, first + random.between(0, kSlotsTogether));
        const int64_t token = random.between(0, shape_.tokens - 1);
        const int64_t end = std::min(shape_.tokens, token + random.between(1, kTokensTogether));
        Exact<float> out((end - token) * shape_.heads * (shape_.size + 2));
        out.fill([] { return NAN; });
        variant.function(attention, {row, group, first, last, token, end, out.data()});
        for (int64_t query = 0; query < (end - token) * shape_.heads; ++query)
          expect_query(name(variant.name), row, group, token + query / shape_.heads, query % shape_.heads, first, last,
                       out.data() + query * (shape_.size + 2));
      }
    }
  }

 private:
  std::string name(const char* variant) const {
    return std::string("attend_slots ") + variant + " (cells of " + std::to_string(sizeof(Number)) + " bytes, " +
           std::to_string(shape_.heads) + " heads of " + std::to_string(shape_.size) + ", " +
           std::to_string(shape_.slots) + " slots, window " + std::to_string(shape_.window) + ", cap " +
           std::to_string(shape_.cap) + ")";
  }

  bool sees(int64_t row, int64_t slot, int64_t at) {
    const int64_t position = positions_[row * shape_.slots + slot];
    return position >= 0 && position <= at && (shape_.window == 0 || position > at - shape_.window);
  }

  // The score, and in `error` by how much rounding may have moved the largest of them.
  double score(const float* query, int64_t place, double* error) {
    double sum = 0, sizes = 0;
    for (int64_t i = 0; i < shape_.size; ++i) {
      const double term = double(query[i]) * keys_.at(place, i);
      sum += term;
      sizes += std::abs(term);
    }
    *error = std::max(*error, double(shape_.size + 2) * kUnit * sizes + 4 * kUnit * shape_.cap);
    return shape_.cap > 0 ? std::tanh(sum / shape_.cap) * shape_.cap : sum;
  }

  void expect_query(const std::string& where, int64_t row, int64_t group, int64_t token, int64_t head, int64_t first,
                    int64_t last, const float* out) {
    const float* query = queries_.data() + ((token * shape_.groups + group) * shape_.heads + head) * shape_.size;
    std::vector<int64_t> seen;
    std::vector<double> scores;
    double error = 0;
    for (int64_t slot = first; slot < last; ++slot) {
      if (!sees(row, slot, at_[token])) continue;
      seen.push_back((row * shape_.slots + slot) * shape_.groups + group);
      scores.push_back(score(query, seen.back(), &error));
    }
    if (seen.empty()) return expect_near(where + " sum of nothing", out[1], 0, 0);
    const double largest = *std::max_element(scores.begin(), scores.end());
    expect_near(where + " largest", out[0], largest, error);
    // What two scores are off by is the relative error of a weight; the exponential and the sum add some units.
    error = 2 * error + double(seen.size() + 8) * kUnit;
    double whole = 0;
    for (double& each : scores) whole += each = std::exp(each - largest);
    expect_near(where + " sum", out[1], whole, error * whole);
    for (int64_t i = 0; i < shape_.size; ++i) {
      double sum = 0, sizes = 0;
      for (size_t s = 0; s < seen.size(); ++s) {
        const double term = scores[s] * values_.at(seen[s], i);
        sum += term;
        sizes += std::abs(term);
      }
      expect_near(where + " value", out[2 + i], sum, error * sizes);
    }
  }

  Shape shape_;
  Exact<float> queries_;
  Cells<Number> keys_, values_;
  Exact<int32_t> at_, positions_;
};

}  // namespace

void check_attend_slots() {
  for_each_variant(attend_slots_portable, attend_slots_avx2, attend_slots_avx512, attend_slots_plain512,
                   [](const Variant<AttendSlots>& variant) {
    Random random(7);
    for (int i = 0; i < 80; ++i) {
      const Shape shape{random.between(1, 3),  random.between(1, 300), random.between(1, 2),
                        random.between(1, 9),  random.between(1, 70),  random.between(0, 1) * random.between(1, 40),
                        random.between(0, 1) ? 50.0f : 0.0f,           random.between(1, 20)};
      if (i % 3 == 0) Problem<uint16_t>(shape, random).check_parts(Cell::kBFloat16, variant, random);
      if (i % 3 == 1) Problem<float>(shape, random).check_parts(Cell::kFloat, variant, random);
      if (i % 3 == 2) Problem<int8_t>(shape, random).check_parts(Cell::kInt8, variant, random);
    }
  });
}
