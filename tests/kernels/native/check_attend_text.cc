// Attention among the tokens of packed texts, block by block of its rows, and its derivatives.
#include "attend_text.h"

#include <algorithm>
#include <string>
#include <vector>

#include "checks.h"

AttendText attend_text_plain512;
AttendTextBack attend_text_back_plain512;

namespace {

struct Both {
  AttendText* forward;
  AttendTextBack* back;
};

struct Shape {
  int64_t texts, tokens, groups, heads, size, window;
  float cap;
};

float number(float value) { return value; }
float number(uint16_t value) { return from_bfloat16(value); }

template <class Number>
Number stored(float value) {
  if constexpr (sizeof(Number) == 2) return to_bfloat16(value);
  else return value;
}

// A sum in double precision, and the sizes of its terms, which say how exact another sum of them can be.
struct Sum {
  double value = 0, sizes = 0;

  void add(double term) {
    value += term;
    sizes += std::abs(term);
  }
};

template <class Number>
class Problem {
 public:
  Problem(const Shape& shape, Random& random)
      : shape_(shape),
        padded_((shape.size + 15) / 16 * 16),
        queries_(rows() * shape.size, int(random.between(0, 3))),
        by_(rows() * shape.size, int(random.between(0, 3))),
        out_(rows() * shape.size, int(random.between(0, 3))),
        to_queries_(rows() * shape.size, int(random.between(0, 3))),
        keys_(keys() * padded_),
        values_(keys() * padded_),
        to_keys_(keys() * padded_),
        to_values_(keys() * padded_),
        log_divisors_(rows()),
        room_(attend_text_room(padded_)),
        positions_(shape.texts * shape.tokens),
        segments_(shape.texts * shape.tokens) {
    const float gain = 1 / std::sqrt(float(shape.size));
    queries_.fill([&] { return stored<Number>(random.normal(2 * gain)); });
    by_.fill([&] { return stored<Number>(random.normal(gain)); });
    for (auto* matrix : {&keys_, &values_}) {
      int64_t i = 0;
      matrix->fill([&] { return i++ % padded_ < shape.size ? random.normal() : 0.0f; });
    }
    for (auto* numbers : {&out_, &to_queries_}) numbers->fill([] { return stored<Number>(NAN); });
    for (auto* sums : {&to_keys_, &to_values_}) sums->fill([] { return 0; });
    for (auto* unset : {&log_divisors_, &room_}) unset->fill([] { return NAN; });
    for (int64_t text = 0; text < shape.texts; ++text) pack(text, random);
  }

  void check(const Variant<const Both>& variant) {
    where_ = std::string("attend_text ") + variant.name + (sizeof(Number) == 2 ? " in bfloat16 (" : " (") +
             std::to_string(shape_.tokens) + " tokens, " + std::to_string(shape_.heads) + " heads of " +
             std::to_string(shape_.size) + ", window " + std::to_string(shape_.window) + ", cap " +
             std::to_string(shape_.cap) + ")";
    const TextAttention attention{queries_.data(), keys_.data(), values_.data(), positions_.data(), segments_.data(),
                                  sizeof(Number) == 2, shape_.tokens, shape_.groups, shape_.heads, shape_.size,
                                  padded_, shape_.window, shape_.cap};
    for_each_block([&](const TextRows& rows) {
      variant.function->forward(attention, rows, {out_.data(), log_divisors_.data()}, room_.data());
    });
    for_each_block([&](const TextRows& rows) {
      const int64_t matrix = (rows.text * shape_.groups + rows.group) * shape_.tokens * padded_;
      variant.function->back(attention, rows,
                             {out_.data(), by_.data(), log_divisors_.data(), to_queries_.data(),
                              to_keys_.data() + matrix, to_values_.data() + matrix},
                             room_.data());
    });
    expected_to_keys_.assign(size_t(keys() * padded_), {});
    expected_to_values_ = expected_to_keys_;
    for (int64_t row = 0; row < rows(); ++row) expect_row(row);
    for (int64_t i = 0; i < keys() * padded_; ++i) {
      expect(" to keys", to_keys_[i], expected_to_keys_[size_t(i)], 0);
      expect(" to values", to_values_[i], expected_to_values_[size_t(i)], 0);
    }
  }

 private:
  int64_t rows() const { return shape_.texts * shape_.tokens * shape_.groups * shape_.heads; }
  int64_t keys() const { return shape_.texts * shape_.groups * shape_.tokens; }

  // Documents of a text, some of them padding.
  void pack(int64_t text, Random& random) {
    int32_t document = 0, position = 0;
    bool padding = random.between(0, 3) == 0;
    for (int64_t token = 0; token < shape_.tokens; ++token, ++position) {
      if (random.between(0, 39) == 0) {
        ++document;
        position = 0;
        padding = random.between(0, 3) == 0;
      }
      positions_[text * shape_.tokens + token] = padding ? -1 : position;
      segments_[text * shape_.tokens + token] = document;
    }
  }

  template <class Take>
  void for_each_block(Take take) {
    const int64_t last = shape_.tokens * shape_.heads;
    for (int64_t text = 0; text < shape_.texts; ++text)
      for (int64_t group = 0; group < shape_.groups; ++group)
        for (int64_t first = 0; first < last; first += kRowsTogether)
          take(TextRows{text, group, first, std::min(last, first + kRowsTogether)});
  }

  bool sees(int64_t text, int64_t token, int64_t key) {
    const int64_t one = text * shape_.tokens + token, other = text * shape_.tokens + key;
    const int64_t back = int64_t{positions_[one]} - positions_[other];
    return positions_[other] >= 0 && segments_[one] == segments_[other] && back >= 0 &&
           (shape_.window == 0 || back < shape_.window);
  }

  void expect(const char* what, double found, const Sum& expected, double rounding) {
    expect_near(where_ + what, found, expected.value,
                std::abs(expected.value) * rounding + 1e-5 * std::max(1.0, expected.sizes));
  }

  // A row of a (B, T, G, H / G, K) array: its result and the gradient of its query; adds what it sends to the keys.
  void expect_row(int64_t row) {
    const int64_t group = row / shape_.heads % shape_.groups, token = row / (shape_.heads * shape_.groups);
    const int64_t text = token / shape_.tokens, matrix = (text * shape_.groups + group) * shape_.tokens;
    std::vector<int64_t> seen;
    for (int64_t key = 0; key < shape_.tokens; ++key)
      if (sees(text, token % shape_.tokens, key)) seen.push_back((matrix + key) * padded_);
    const Number *query = queries_.data() + row * shape_.size, *by = by_.data() + row * shape_.size;
    std::vector<double> scores, shares;
    double most = -1e30, whole = 0, along = 0;
    for (const int64_t key : seen) {
      double score = 0;
      for (int64_t i = 0; i < shape_.size; ++i) score += double(number(query[i])) * keys_[key + i];
      scores.push_back(shape_.cap > 0 ? std::tanh(score / shape_.cap) * shape_.cap : score);
      most = std::max(most, scores.back());
    }
    for (const double score : scores) whole += std::exp(score - most);
    if (seen.empty()) expect_near(where_ + " divisor of nothing", log_divisors_[row] > 1e38f, 1, 0);
    else expect_near(where_ + " divisor", log_divisors_[row], most + std::log(whole), 1e-5);
    for (const double score : scores) shares.push_back(std::exp(score - most) / whole);
    std::vector<Sum> mixed(size_t(shape_.size)), to_query(size_t(shape_.size));
    for (size_t s = 0; s < seen.size(); ++s)
      for (int64_t i = 0; i < shape_.size; ++i) mixed[size_t(i)].add(shares[s] * values_[seen[s] + i]);
    const double rounding = sizeof(Number) == 2 ? 0x1.01p-8 : 0;
    for (int64_t i = 0; i < shape_.size; ++i) {
      const double found = number(out_[row * shape_.size + i]);
      expect(" result", found, mixed[size_t(i)], rounding);
      along += found * number(by[i]);  // the rounded result, as the kernel has it
    }
    for (size_t s = 0; s < seen.size(); ++s) {
      double slope = -along;
      for (int64_t i = 0; i < shape_.size; ++i) slope += double(number(by[i])) * values_[seen[s] + i];
      slope *= shares[s];
      if (shape_.cap > 0) slope *= 1 - scores[s] * scores[s] / (double(shape_.cap) * shape_.cap);
      for (int64_t i = 0; i < shape_.size; ++i) {
        to_query[size_t(i)].add(slope * keys_[seen[s] + i]);
        expected_to_keys_[size_t(seen[s] + i)].add(slope * number(query[i]));
        expected_to_values_[size_t(seen[s] + i)].add(shares[s] * number(by[i]));
      }
    }
    for (int64_t i = 0; i < shape_.size; ++i)
      expect(" to query", number(to_queries_[row * shape_.size + i]), to_query[size_t(i)], rounding);
  }

  Shape shape_;
  int64_t padded_;
  Exact<Number> queries_, by_, out_, to_queries_;
  Exact<float> keys_, values_, to_keys_, to_values_, log_divisors_, room_;
  Exact<int32_t> positions_, segments_;
  std::vector<Sum> expected_to_keys_, expected_to_values_;
  std::string where_;
};

}  // namespace

void check_attend_text() {
  const Both portable{attend_text_portable, attend_text_back_portable}, avx2{attend_text_avx2, attend_text_back_avx2},
      avx512{attend_text_avx512, attend_text_back_avx512}, plain512{attend_text_plain512, attend_text_back_plain512};
  for_each_variant(&portable, &avx2, &avx512, &plain512, [](const auto& variant) {
    Random random(10);
    for (int i = 0; i < 20; ++i) {
      const bool many = i % 5 == 4;  // heads: a token then fills more than a block
      const Shape shape{random.between(1, 2), random.between(1, many ? 5 : 100), random.between(1, 2),
                        many ? random.between(65, 80) : random.between(1, 5), random.between(1, 40),
                        random.between(0, 1) * random.between(1, 40), random.between(0, 1) ? 5.0f : 0.0f};
      if (i % 2 == 0) Problem<float>(shape, random).check(variant);
      else Problem<uint16_t>(shape, random).check(variant);
    }
  });
}
