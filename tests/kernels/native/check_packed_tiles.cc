// The packed product with 4- and 8-bit codes. All that the checks know of packed_tiles.h is in this file and in
// packed_codes.h.
#include "packed_tiles.h"

#include <algorithm>

#include "checks.h"
#include "packed_codes.h"

PackedTiles packed_tiles4_plain512, packed_tiles8_plain512, packed_tiles4_streams512, packed_tiles8_streams512;

namespace {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A float16 and its value: within the normal numbers, or a subnormal.
uint16_t draw_scale(Random& random) {
  const bool subnormal = random.between(0, 9) == 0;
  const int64_t exponent = subnormal ? 0 : random.between(1, 20);
  return uint16_t(random.between(0, 1) << 15 | exponent << 10 | random.between(0, 1023));
}

// What an instruction set wants beside its function.
struct Arithmetic {
  PackedTiles* tiles;
  int64_t together;  // rows
  int32_t (*start)(int64_t bits, int32_t sum);
};

int32_t no_start(int64_t, int32_t) { return 0; }

struct Shape {
  int64_t n, groups, outs;
  bool narrow;
};

// Where group `g` of row `t` is kept: rows stand in blocks, the last one of what remains, group by group.
int64_t interleaved(const Shape& shape, int64_t together, int64_t t, int64_t g) {
  const int64_t first = t / together * together, rows = std::min(together, shape.n - first);
  return first * shape.groups + g * rows + (t - first);
}

// A product with random codes: all of them, also those that quantising does not make (-128, -8).
class Problem {
 public:
  Problem(int bits, const Arithmetic& by, const Shape& shape, Random& random)
      : bits_(bits),
        by_(by),
        shape_(shape),
        tiles_(ceil_div(shape.outs, kTileRows)),
        group_bytes_(kTileRows * kGroup * bits / 8),
        x_(shape.n * shape.groups * kGroup, int(random.between(0, 3))),
        x_scales_(shape.n * shape.groups),
        x_starts_(shape.n * shape.groups),
        codes_(tiles_ * shape.groups * group_bytes_, int(random.between(0, 3))),
        scales_(tiles_ * shape.groups * kTileRows, int(random.between(0, 3))),
        wide_(shape.narrow ? 0 : shape.n * shape.outs, int(random.between(0, 3))),
        narrow_(shape.narrow ? shape.n * shape.outs : 0, int(random.between(0, 3))) {
    x_.fill([&] { return random.between(-127, 127); });
    codes_.fill([&] { return random.between(0, 255); });
    if (random.between(0, 2) == 0) make_extreme(random);
    x_scales_.fill([&] { return std::abs(random.normal(0.02f)); });
    scales_.fill([&] { return draw_scale(random); });
    wide_.fill([] { return NAN; });
    narrow_.fill([] { return 0x7fc0; });
    for (int64_t g = 0; g < x_starts_.size(); ++g) {
      int32_t sum = 0;
      for (int i = 0; i < kGroup; ++i) sum += x_[g * kGroup + i];
      x_starts_[g] = by.start(bits, sum);
    }
  }

  void compute(int64_t middle) {
    void* out = shape_.narrow ? static_cast<void*>(narrow_.data()) : wide_.data();
    const PackedProduct product{x_.data(), x_scales_.data(), x_starts_.data(), nullptr, codes_.data(), scales_.data(),
                                out, shape_.narrow, shape_.n, shape_.groups, shape_.outs};
    by_.tiles(product, 0, middle, {product.codes + middle * shape_.groups * group_bytes_,
                                   product.scales + middle * shape_.groups * kTileRows});
    by_.tiles(product, middle, tiles_, {});
  }

  void expect(const std::string& where) {
    for (int64_t t = 0; t < shape_.n; ++t) {
      for (int64_t o = 0; o < shape_.outs; ++o) {
        double sum = 0, sizes = 0;
        for (int64_t g = 0; g < shape_.groups; ++g) {
          const double term = group_term(t, o, g);
          sum += term;
          sizes += std::abs(term);
        }
        const int64_t at = t * shape_.outs + o;
        const double rounding = shape_.narrow ? std::abs(sum) * 0x1.01p-8 : 0;
        expect_near(where, shape_.narrow ? from_bfloat16(narrow_[at]) : wide_[at], sum,
                    double(shape_.groups + 3) * kUnit * sizes + rounding);
      }
    }
  }

  int64_t tiles() const { return tiles_; }

 private:
  // Sums as large as they get on the way, of either sign: nothing may overflow.
  void make_extreme(Random& random) {
    for (int64_t i = 0; i < x_.size(); i += 8) {
      const int8_t run = random.between(0, 1) ? 127 : -127;
      for (int64_t j = i; j < i + 8; ++j) x_[j] = run;
    }
    codes_.fill([&] { return bits_ == 8 ? (random.between(0, 1) ? 0x80 : 0x7f) : (random.between(0, 3) ? 0xff : 0x00); });
  }

  double group_term(int64_t t, int64_t o, int64_t g) {
    const int64_t group = o / kTileRows * shape_.groups + g, x_group = interleaved(shape_, by_.together, t, g);
    int dot = 0;
    for (int i = 0; i < kGroup; ++i) {
      const Place place = place_of(bits_, int(o % kTileRows), i);
      dot += code_of(bits_, codes_[group * group_bytes_ + place.byte], place.high) * x_[x_group * kGroup + i];
    }
    return dot * scale_value(scales_[group * kTileRows + o % kTileRows]) * x_scales_[x_group];
  }

  int bits_;
  Arithmetic by_;
  Shape shape_;
  int64_t tiles_, group_bytes_;
  Exact<int8_t> x_;
  Exact<float> x_scales_;
  Exact<int32_t> x_starts_;
  Exact<uint8_t> codes_;
  Exact<uint16_t> scales_;
  Exact<float> wide_;
  Exact<uint16_t> narrow_;
};

void check(int bits, const Variant<const Arithmetic>& variant, Random& random, const Shape& shape) {
  Problem problem(bits, *variant.function, shape, random);
  problem.compute(random.between(0, problem.tiles()));
  problem.expect("packed_tiles " + std::to_string(bits) + " bits, " + variant.name + " (" + std::to_string(shape.n) +
                 ", " + std::to_string(shape.groups) + ", " + std::to_string(shape.outs) + ")" +
                 (shape.narrow ? " to bfloat16" : ""));
}

void check_all(int bits, const Variant<const Arithmetic>& variant) {
  Random random(uint32_t(2 + bits));
  for (int64_t n = 1; n <= 17; ++n) check(bits, variant, random, {n, 2, 16, false});
  for (int i = 0; i < 60; ++i)
    check(bits, variant, random,
          {random.between(1, 12), random.between(1, 9), random.between(1, 70), random.between(0, 1) == 1});
}

void check_width(int bits, PackedTiles* portable, PackedTiles* avx2, PackedTiles* avx512, PackedTiles* plain512,
                 PackedTiles* streams512) {
  const Arithmetic of_portable{portable, kTokensPortable, no_start}, of_avx2{avx2, kTokensAvx2, packed_start_avx2};
  const auto of_512 = [](PackedTiles* tiles) { return Arithmetic{tiles, kTokensAvx512, packed_start_avx512}; };
  const Arithmetic of_avx512 = of_512(avx512), of_plain512 = of_512(plain512), of_streams = of_512(streams512);
  const auto check = [=](const auto& variant) { check_all(bits, variant); };
  for_each_variant(&of_portable, &of_avx2, &of_avx512, &of_plain512, check);
  check(Variant<const Arithmetic>{"avx512 in plain C++, four tiles at once", &of_streams});
}

}  // namespace

void check_packed_tiles() {
  check_width(4, packed_tiles4_portable, packed_tiles4_avx2, packed_tiles4_avx512, packed_tiles4_plain512,
              packed_tiles4_streams512);
  check_width(8, packed_tiles8_portable, packed_tiles8_avx2, packed_tiles8_avx512, packed_tiles8_plain512,
              packed_tiles8_streams512);
}
