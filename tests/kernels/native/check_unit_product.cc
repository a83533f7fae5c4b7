// Products of bfloat16 matrices by the matrix unit: rows in its order, stripes of columns, all rows or all columns.
#include "unit_product.h"

#include <algorithm>

#include "checks.h"
#include "narrow_tiles.h"
#include "widened_tiles.h"

namespace {

struct Functions {
  const char* name;
  WidenRows* widen_rows;
  TurnedRows* turned_rows;
  UnitStripes* stripes;
  UnitRows* rows;
  PairRows* pair_rows;
  PairColumns* pair_columns;
};

struct Shape {
  int64_t rows, depth, columns;
  bool left_turned, right_turned, by_stripes;
};

constexpr uint16_t kNoNumber = 0x7fc0;  // what is not written would spread

// A in the unit's order; left is (rows, depth), or its transposed.
void order_left(const Functions& f, const Shape& s, const WidenedRows& task) {
  for (int64_t block = 0; block < task.blocks(); ++block) {
    if (!s.left_turned) {
      f.widen_rows(task, block);
    } else {
      Exact<uint32_t> room((s.depth + 1) / 2 * kUnitSide);
      f.turned_rows(task, block, room.data());
    }
  }
}

void multiply(const Functions& f, const Shape& s, const UnitProduct& all) {
  const int64_t stripes = (s.columns + kUnitSide - 1) / kUnitSide, stripe_size = all.steps * kGroup * kUnitSide;
  if (!s.by_stripes) {
    for (int64_t block = 0; block < all.blocks(); block += kUnitBlocks) f.rows(all, block);
    return;
  }
  for (int64_t first = 0; first < stripes; first += kUnitStripes) {
    UnitProduct some = all;
    some.b = all.b + first * stripe_size;
    f.stripes(some, first, std::min(stripes, first + kUnitStripes));
  }
}

void check(const Functions& f, Random& random, const Shape& s) {
  const int64_t steps = (s.depth + kGroup - 1) / kGroup, stripes = (s.columns + kUnitSide - 1) / kUnitSide;
  Exact<uint16_t> left(s.rows * s.depth), right(s.depth * s.columns), out(s.rows * s.columns);
  for (auto* each : {&left, &right}) each->fill([&] { return to_bfloat16(random.normal()); });
  WidenedRows task{left.data(), true, nullptr, s.rows, s.depth, steps};
  Exact<uint16_t> a(task.size()), b(stripes * steps * kGroup * kUnitSide);
  a.fill([] { return kNoNumber; });
  b.fill([] { return 0; });
  task.out = a.data();
  order_left(f, s, task);
  for (int64_t stripe = 0; stripe < stripes; ++stripe) {
    auto* words = reinterpret_cast<uint32_t*>(b.data() + stripe * steps * kGroup * kUnitSide);
    (s.right_turned ? f.pair_columns : f.pair_rows)(right.data(), s.depth, s.columns, stripe * kUnitSide, kUnitSide, words);
  }
  multiply(f, s, {a.data(), b.data(), out.data(), s.rows, s.columns, steps});
  for (int64_t i = 0; i < s.rows; ++i) {
    for (int64_t j = 0; j < s.columns; ++j) {
      double sum = 0, sizes = 0;
      for (int64_t k = 0; k < s.depth; ++k) {
        const double term = double(from_bfloat16(left[s.left_turned ? k * s.rows + i : i * s.depth + k])) *
                            from_bfloat16(right[s.right_turned ? j * s.depth + k : k * s.columns + j]);
        sum += term;
        sizes += std::abs(term);
      }
      expect_near(std::string("unit_product ") + f.name + " (" + std::to_string(s.rows) + ", " + std::to_string(s.depth) +
                      ", " + std::to_string(s.columns) + ")",
                  from_bfloat16(out[i * s.columns + j]), sum,
                  std::abs(sum) * 0x1.01p-8 + double(s.depth + 2) * kUnit * sizes);
    }
  }
}

void check_all(const Functions& f) {
  Random random(13);
  for (int i = 0; i < 24; ++i)
    check(f, random,
          {random.between(1, 80), random.between(1, 100), random.between(1, 150), (i & 1) != 0, (i & 2) != 0, (i & 4) != 0});
  check(f, random, {3, kGroup * kPartGroups + 7, 40, true, true, false});  // two parts of the inputs
  check(f, random, {kUnitBlocks * kUnitSide + 1, 9, 33, false, false, true});
}

}  // namespace

void check_unit_product() {
#if defined(GEMWRIGHT_AMX)
  if (choose_level("amx") != Level::kNone)
    check_all({"amx", widen_rows_amx, turned_rows_amx, unit_stripes_amx, unit_rows_amx, pair_rows_avx512,
               pair_columns_avx512});
#endif
  check_all({"amx in plain C++", widen_rows_plain512, turned_rows_plain512, unit_stripes_plain512, unit_rows_plain512,
             pair_rows_plain512, pair_columns_plain512});
}
