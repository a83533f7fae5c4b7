// The packed product with many rows: every output against the sum over its inputs in double precision, of rows and
// weights rounded to bfloat16. Memory has the exact size.
#include "widened_tiles.h"

#include "checks.h"
#include "matrix_loop.h"
#include "packed_codes.h"

PackedTiles widened_tiles4_plain512, widened_tiles8_plain512;
MatrixLoop matrix_loop_plain512;

namespace {

struct Functions {
  const char* name;
  WidenRows* widen;
  PackedTiles *tiles4, *tiles8;
  MatrixLoop* loop;
};

uint16_t nearest_bfloat16(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return uint16_t((word + 0x7fff + (word >> 16 & 1)) >> 16);
}

struct Shape {
  int64_t n, in, outs;
  bool narrow;
};

void check(const Functions& f, Random& random, int bits, const Shape& shape) {
  const int64_t groups = (shape.in + kGroup - 1) / kGroup, tiles = (shape.outs + kTileRows - 1) / kTileRows;
  const int64_t group_bytes = kTileRows * kGroup * bits / 8;
  Exact<float> rows(shape.n * shape.in);
  Exact<uint16_t> narrow_rows(shape.n * shape.in);
  rows.fill([&] { return random.normal(); });
  for (int64_t i = 0; i < rows.size(); ++i) narrow_rows[i] = nearest_bfloat16(rows[i]);
  Exact<uint8_t> codes(tiles * groups * group_bytes);
  Exact<uint16_t> scales(tiles * groups * kTileRows);
  codes.fill([&] { return random.between(0, 255); });
  scales.fill([&] { return random.between(0, 1) << 15 | random.between(0x1000, 0x3000); });

  const void* from = shape.narrow ? static_cast<void*>(narrow_rows.data()) : rows.data();
  WidenedRows task{from, shape.narrow, nullptr, shape.n, shape.in, groups};
  Exact<uint16_t> wide(task.size());
  wide.fill([] { return 0x7fc0; });  // no numbers: what is not written must meet no row that is
  task.out = wide.data();
  for (int64_t block = 0; block < task.blocks(); ++block) f.widen(task, block);

  Exact<float> out(shape.n * shape.outs);
  Exact<uint16_t> narrow_out(shape.n * shape.outs);
  PackedProduct p{};
  p.x_wide = wide.data();
  p.codes = codes.data();
  p.scales = scales.data();
  p.out = shape.narrow ? static_cast<void*>(narrow_out.data()) : out.data();
  p.narrow = shape.narrow;
  p.n = shape.n;
  p.groups = groups;
  p.outs = shape.outs;
  const int64_t middle = random.between(0, tiles);
  PackedTiles* compute = bits == 4 ? f.tiles4 : f.tiles8;
  compute(p, 0, middle, {});
  compute(p, middle, tiles, {});

  for (int64_t t = 0; t < shape.n; ++t) {
    for (int64_t o = 0; o < shape.outs; ++o) {
      double sum = 0, sizes = 0;
      for (int64_t i = 0; i < shape.in; ++i) {
        const int64_t group = o / kTileRows * groups + i / kGroup;
        const Place place = place_of(bits, int(o % kTileRows), int(i % kGroup));
        const int code = code_of(bits, codes[group * group_bytes + place.byte], place.high);
        const float weight = float(code) * float(scale_value(scales[group * kTileRows + o % kTileRows]));
        const double term =
            double(from_bfloat16(nearest_bfloat16(weight))) * from_bfloat16(narrow_rows[t * shape.in + i]);
        sum += term;
        sizes += std::abs(term);
      }
      const double found = shape.narrow ? from_bfloat16(narrow_out[t * shape.outs + o]) : out[t * shape.outs + o];
      expect_near(std::string("widened_tiles ") + std::to_string(bits) + " bits, " + f.name + " (" +
                      std::to_string(shape.n) + ", " + std::to_string(shape.in) + ", " + std::to_string(shape.outs) + ")",
                  found, sum, (shape.narrow ? std::abs(sum) * 0x1.01p-8 : 0) + double(shape.in + 2) * kUnit * sizes);
    }
  }
}

// What is multiplied stays in tiles: each chain is `rounds` times the product.
void check_loop(const Functions& f, Random& random) {
  Exact<uint16_t> a(16 * 32), b(16 * 32);
  Exact<float> out(kSumsOfLoop * 16 * 16);
  for (auto* each : {&a, &b}) each->fill([&] { return to_bfloat16(float(random.between(-4, 4))); });
  f.loop(a.data(), b.data(), 5, out.data());
  for (int64_t i = 0; i < out.size(); ++i) {
    double sum = 0;
    for (int64_t k = 0; k < 32; ++k)
      sum += double(from_bfloat16(a[i / 16 % 16 * 32 + k])) * from_bfloat16(b[k / 2 * 32 + i % 16 * 2 + k % 2]);
    expect_near(std::string("matrix_loop ") + f.name, out[i], 5 * sum, 0);
  }
}

void check_all(const Functions& f) {
  Random random(11);
  for (int bits : {4, 8}) {
    for (int i = 0; i < 16; ++i)
      check(f, random, bits,
            {random.between(1, 80), random.between(1, 100), random.between(1, 90), random.between(0, 1) == 1});
    check(f, random, bits, {3, kGroup * (kPartGroups + 1), 5, false});               // two parts of the inputs
    check(f, random, bits, {9 * kBlockRows + 1, 33, 17 * kTileRows + 1, true});      // two panels either way
  }
  check_loop(f, random);
}

}  // namespace

void check_widened_tiles() {
#if defined(GEMWRIGHT_AMX)
  if (choose_level("amx") != Level::kNone)
    check_all({"amx", widen_rows_amx, widened_tiles4_amx, widened_tiles8_amx, matrix_loop_amx});
#endif
  check_all({"amx in plain C++", widen_rows_plain512, widened_tiles4_plain512, widened_tiles8_plain512,
             matrix_loop_plain512});
}
