// Attention of one query over a part of the slots.
#include "attend_slots.h"

#include <algorithm>
#include <vector>

#include "checks.h"

AttendSlots attend_slots_plain512;

namespace {

struct Shape {
  int64_t rows, slots, groups, heads, size, window;
  float cap;
};

class Problem {
 public:
  Problem(const Shape& shape, Random& random)
      : shape_(shape),
        queries_(shape.rows * shape.groups * shape.heads * shape.size, int(random.between(0, 3))),
        keys_(shape.rows * shape.slots * shape.groups * shape.size, int(random.between(0, 3))),
        values_(keys_.size(), int(random.between(0, 3))),
        at_(shape.rows),
        positions_(shape.rows * shape.slots) {
    queries_.fill([&] { return random.normal(2.0f / std::sqrt(float(shape.size))); });
    keys_.fill([&] { return to_bfloat16(random.normal()); });
    values_.fill([&] { return to_bfloat16(random.normal()); });
    at_.fill([&] { return random.between(-1, shape.slots); });
    positions_.fill([&] { return random.between(0, 3) ? random.between(0, shape.slots) : -1; });
  }

  void check_parts(const Variant<AttendSlots>& variant, Random& random) {
    const SlotAttention attention{queries_.data(), keys_.data(), values_.data(), at_.data(),    positions_.data(),
                                  shape_.slots,    shape_.groups, shape_.heads,  shape_.size,   shape_.window,
                                  shape_.cap};
    for (int64_t row = 0; row < shape_.rows; ++row) {
      for (int64_t group = 0; group < shape_.groups; ++group) {
        const int64_t first = random.between(0, shape_.slots);
        const int64_t last = std::min(shape_.slots, first + random.between(0, kSlotsTogether));
        Exact<float> scores(shape_.heads * kSlotsTogether), out(shape_.heads * (shape_.size + 2));
        scores.fill([] { return NAN; });
        out.fill([] { return NAN; });
        variant.function(attention, {row, group, first, last, scores.data(), out.data()});
        for (int64_t head = 0; head < shape_.heads; ++head)
          expect_head(name(variant.name), row, group, head, first, last, out.data() + head * (shape_.size + 2));
      }
    }
  }

 private:
  std::string name(const char* variant) const {
    return std::string("attend_slots ") + variant + " (" + std::to_string(shape_.heads) + " heads of " +
           std::to_string(shape_.size) + ", " + std::to_string(shape_.slots) + " slots, window " +
           std::to_string(shape_.window) + ", cap " + std::to_string(shape_.cap) + ")";
  }

  bool sees(int64_t row, int64_t slot) {
    const int64_t position = positions_[row * shape_.slots + slot], at = at_[row];
    return position >= 0 && position <= at && (shape_.window == 0 || position > at - shape_.window);
  }

  int64_t place(int64_t row, int64_t slot, int64_t group) const {
    return ((row * shape_.slots + slot) * shape_.groups + group) * shape_.size;
  }

  // The score, and in `error` by how much rounding may have moved the largest of them.
  double score(const float* query, int64_t key, double* error) {
    double sum = 0, sizes = 0;
    for (int64_t i = 0; i < shape_.size; ++i) {
      const double term = double(query[i]) * from_bfloat16(keys_[key + i]);
      sum += term;
      sizes += std::abs(term);
    }
    *error = std::max(*error, double(shape_.size + 1) * kUnit * sizes + 4 * kUnit * shape_.cap);
    return shape_.cap > 0 ? std::tanh(sum / shape_.cap) * shape_.cap : sum;
  }

  void expect_head(const std::string& where, int64_t row, int64_t group, int64_t head, int64_t first, int64_t last,
                   const float* out) {
    const float* query = queries_.data() + ((row * shape_.groups + group) * shape_.heads + head) * shape_.size;
    std::vector<int64_t> seen;
    std::vector<double> scores;
    double error = 0;
    for (int64_t slot = first; slot < last; ++slot) {
      if (!sees(row, slot)) continue;
      seen.push_back(place(row, slot, group));
      scores.push_back(score(query, seen.back(), &error));
    }
    const double largest = scores.empty() ? 0 : *std::max_element(scores.begin(), scores.end());
    expect_near(where + " largest", out[0], largest, error);
    // What two scores are off by is the relative error of a weight; the exponential and the sum add some units.
    error = 2 * error + double(seen.size() + 8) * kUnit;
    double whole = 0;
    for (double& each : scores) whole += each = std::exp(each - largest);
    expect_near(where + " sum", out[1], whole, error * whole);
    for (int64_t i = 0; i < shape_.size; ++i) {
      double sum = 0, sizes = 0;
      for (size_t s = 0; s < seen.size(); ++s) {
        const double term = scores[s] * from_bfloat16(values_[seen[s] + i]);
        sum += term;
        sizes += std::abs(term);
      }
      expect_near(where + " value", out[2 + i], sum, error * sizes);
    }
  }

  Shape shape_;
  Exact<float> queries_;
  Exact<uint16_t> keys_, values_;
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
                        random.between(0, 1) ? 50.0f : 0.0f};
      Problem(shape, random).check_parts(variant, random);
    }
  });
}
