// Products of bfloat16 matrices: words of pairs, of rows and of columns, and tiles of the result.
#include "narrow_tiles.h"

#include <algorithm>

#include "checks.h"

namespace {

struct Functions {
  const char* name;
  NarrowTiles* tiles;
  PairRows* pair_rows;
  PairColumns* pair_columns;
};

// All columns of a matrix, `room` at a time.
void pair_all(PairRows* pair, Exact<uint16_t>& matrix, int64_t depth, int64_t width, int64_t room,
              Exact<uint32_t>& words) {
  words.fill([] { return 0x7fc07fc0; });  // no numbers: what is not written would spread
  for (int64_t first = 0; first < width; first += room)
    pair(matrix.data(), depth, width, first, room, words.data() + first * ((depth + 1) / 2));
}

int64_t made_up(int64_t size, int64_t room) { return (size + room - 1) / room * room; }

// Left is (rows, depth), or its transposed; right (depth, columns), or its transposed.
void check(const Functions& f, Random& random, int64_t rows, int64_t depth, int64_t columns, bool left_turned,
           bool right_turned) {
  const int64_t pairs = (depth + 1) / 2;
  Exact<uint16_t> left(rows * depth), right(depth * columns), out(rows * columns);
  left.fill([&] { return to_bfloat16(random.normal()); });
  right.fill([&] { return to_bfloat16(random.normal()); });
  Exact<uint32_t> a(made_up(rows, kRowsInTask) * pairs), b(made_up(columns, kColumnsTogether) * pairs);
  pair_all(left_turned ? f.pair_rows : f.pair_columns, left, depth, rows, kRowsInTask, a);
  pair_all(right_turned ? f.pair_columns : f.pair_rows, right, depth, columns, kColumnsTogether, b);
  const bool as_it_is = !left_turned && depth % 2 == 0;
  for (int64_t first = 0; first < rows; first += kRowsInTask) {
    const char* stripe = reinterpret_cast<const char*>(a.data() + first * pairs) - 4 * first;
    const char* at = as_it_is ? reinterpret_cast<const char*>(left.data()) : stripe;
    const NarrowProduct product{at,         as_it_is ? 2 * depth : 4, as_it_is ? 4 : 4 * kRowsInTask, b.data(),
                                out.data(), columns,                  columns,                        pairs};
    f.tiles(product, first, std::min(rows, first + kRowsInTask));
  }
  for (int64_t i = 0; i < rows; ++i) {
    for (int64_t j = 0; j < columns; ++j) {
      double sum = 0, sizes = 0;
      for (int64_t k = 0; k < depth; ++k) {
        const double term = double(from_bfloat16(left[left_turned ? k * rows + i : i * depth + k])) *
                            from_bfloat16(right[right_turned ? j * depth + k : k * columns + j]);
        sum += term;
        sizes += std::abs(term);
      }
      const std::string where = std::string("narrow_tiles ") + f.name + " (" + std::to_string(rows) + ", " +
                                std::to_string(depth) + ", " + std::to_string(columns) + ")";
      expect_near(where, from_bfloat16(out[i * columns + j]), sum,
                  std::abs(sum) * 0x1.01p-8 + double(depth + 2) * kUnit * sizes);
    }
  }
}

void check_all(const Functions& f) {
  Random random(9);
  for (int i = 0; i < 24; ++i)
    check(f, random, random.between(1, 110), random.between(1, 70), random.between(1, 140), i & 1, i & 2);
  check(f, random, 7, 2 * kPairsTogether + 3, 65, false, false);  // sums that are put away between
}

}  // namespace

void check_narrow_tiles() {
#if defined(GEMWRIGHT_BFLOAT16)
  if (choose_level("avx512") != Level::kNone && __builtin_cpu_supports("avx512bf16"))
    check_all({"avx512", narrow_tiles_avx512, pair_rows_avx512, pair_columns_avx512});
#endif
  check_all({"avx512 in plain C++", narrow_tiles_plain512, pair_rows_plain512, pair_columns_plain512});
}
