// The packed product with 4- and 8-bit codes. All that these checks know of packed_tiles.h is in this file.
#include "packed_tiles.h"

#include <vector>

#include "checks.h"

PackedTiles packed_tiles4_plain512, packed_tiles8_plain512;

namespace {

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// A float16 and its value: within the normal numbers, or a subnormal.
uint16_t draw_scale(Random& random) {
  const bool subnormal = random.between(0, 9) == 0;
  const int64_t exponent = subnormal ? 0 : random.between(1, 20);
  return uint16_t(random.between(0, 1) << 15 | exponent << 10 | random.between(0, 1023));
}

double scale_value(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const double size = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  return half >> 15 ? -size : size;
}

// Where a weight's code lies: the byte within its group, and whether in the high half of it.
struct Place {
  int64_t byte;
  bool high;
};

Place place_of(int bits, int row, int input) {
  if (bits == 8) return {64 * (input / 4) + 4 * row + input % 4, false};
  return {64 * (input % 16 / 4) + 4 * row + input % 4, input >= 16};
}

int code_of(int bits, uint8_t byte, bool high) {
  if (bits == 8) return int8_t(byte);
  return (high ? byte >> 4 : byte & 15) - 8;
}

struct Shape {
  int64_t n, groups, outs;
};

// A product with random codes: all of them, also those that quantising does not make (-128, -8).
class Problem {
 public:
  Problem(int bits, Shape shape, Random& random)
      : bits_(bits),
        shape_(shape),
        tiles_(ceil_div(shape.outs, kTileRows)),
        group_bytes_(kTileRows * kGroup * bits / 8),
        x_(shape.n * shape.groups * kGroup, int(random.between(0, 3))),
        x_scales_(shape.n * shape.groups),
        x_sums_(shape.n * shape.groups),
        codes_(tiles_ * shape.groups * group_bytes_, int(random.between(0, 3))),
        scales_(tiles_ * shape.groups * kTileRows, int(random.between(0, 3))),
        out_(shape.n * shape.outs, int(random.between(0, 3))) {
    const bool largest = random.between(0, 4) == 0;  // nothing may overflow on the way
    x_.fill([&] { return largest ? 127 : random.between(-127, 127); });
    codes_.fill([&] { return largest ? (bits == 8 ? 0x80 : 0xff) : random.between(0, 255); });
    x_scales_.fill([&] { return std::abs(random.normal(0.02f)); });
    scales_.fill([&] { return draw_scale(random); });
    out_.fill([] { return NAN; });
    for (int64_t g = 0; g < x_sums_.size(); ++g) {
      x_sums_[g] = 0;
      for (int i = 0; i < kGroup; ++i) x_sums_[g] += x_[g * kGroup + i];
    }
  }

  void compute(PackedTiles* function, int64_t middle) {
    const PackedProduct product{x_.data(),      x_scales_.data(), x_sums_.data(), codes_.data(), scales_.data(),
                                out_.data(),    shape_.n,         shape_.groups,  shape_.outs};
    function(product, 0, middle);
    function(product, middle, tiles_);
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
        expect_near(where, out_[t * shape_.outs + o], sum, double(shape_.groups + 3) * kUnit * sizes);
      }
    }
  }

  int64_t tiles() const { return tiles_; }

 private:
  double group_term(int64_t t, int64_t o, int64_t g) {
    const int64_t group = o / kTileRows * shape_.groups + g, x_group = t * shape_.groups + g;
    int dot = 0;
    for (int i = 0; i < kGroup; ++i) {
      const Place place = place_of(bits_, int(o % kTileRows), i);
      dot += code_of(bits_, codes_[group * group_bytes_ + place.byte], place.high) * x_[x_group * kGroup + i];
    }
    return dot * scale_value(scales_[group * kTileRows + o % kTileRows]) * x_scales_[x_group];
  }

  int bits_;
  Shape shape_;
  int64_t tiles_, group_bytes_;
  Exact<int8_t> x_;
  Exact<float> x_scales_;
  Exact<int32_t> x_sums_;
  Exact<uint8_t> codes_;
  Exact<uint16_t> scales_;
  Exact<float> out_;
};

void check(int bits, const Variant<PackedTiles>& variant, Random& random, Shape shape) {
  Problem problem(bits, shape, random);
  problem.compute(variant.function, random.between(0, problem.tiles()));
  problem.expect("packed_tiles " + std::to_string(bits) + " bits, " + variant.name + " (" + std::to_string(shape.n) +
                 ", " + std::to_string(shape.groups) + ", " + std::to_string(shape.outs) + ")");
}

}  // namespace

void check_packed_tiles() {
  for (const int bits : {4, 8}) {
    const auto all = [bits](const Variant<PackedTiles>& variant) {
      Random random(uint32_t(2 + bits));
      for (int64_t n = 1; n <= 17; ++n) check(bits, variant, random, {n, 2, 16});
      for (int i = 0; i < 40; ++i)
        check(bits, variant, random, {random.between(1, 12), random.between(1, 9), random.between(1, 70)});
    };
    if (bits == 4) {
      for_each_variant(packed_tiles4_portable, packed_tiles4_avx2, packed_tiles4_avx512, packed_tiles4_plain512, all);
    } else {
      for_each_variant(packed_tiles8_portable, packed_tiles8_avx2, packed_tiles8_avx512, packed_tiles8_plain512, all);
    }
  }
}
