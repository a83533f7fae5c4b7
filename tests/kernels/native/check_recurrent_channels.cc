// The gated recurrence, some channels of a block at a time, over rows with padding and several documents.
#include "recurrent_channels.h"

#include <algorithm>
#include <vector>

#include "checks.h"

RecurrentChannels recurrent_channels_plain512;

namespace {

struct Case {
  Exact<float> x, input_bias, decay_bias, rate, start, out, input_wide, decay_wide;
  Exact<uint16_t> input_narrow, decay_narrow;
  Exact<int32_t> places;
  GatedRecurrence g;

  Case(Random& random, bool narrow, int64_t rows, int64_t tokens, int64_t blocks, int64_t size, int shift)
      : x(rows * tokens * blocks * size, shift), input_bias(blocks * size, shift), decay_bias(blocks * size, shift),
        rate(blocks * size, shift), start(rows * blocks * size, shift), out(x.size(), shift),
        input_wide(narrow ? 0 : blocks * size * size, shift), decay_wide(input_wide.size(), shift),
        input_narrow(narrow ? blocks * size * size : 0, shift), decay_narrow(input_narrow.size(), shift),
        places(rows * tokens, shift),
        g{x.data(), narrow ? static_cast<void*>(input_narrow.data()) : input_wide.data(),
          narrow ? static_cast<void*>(decay_narrow.data()) : decay_wide.data(), input_bias.data(), decay_bias.data(),
          rate.data(), places.data(), start.data(), out.data(), narrow, rows, tokens, blocks, size} {
    const float gain = 1 / std::sqrt(float(size));
    for (auto* values : {&x, &input_bias, &decay_bias, &start}) values->fill([&] { return random.normal(); });
    for (auto* values : {&input_wide, &decay_wide}) values->fill([&] { return random.normal(gain); });
    for (auto* values : {&input_narrow, &decay_narrow})
      values->fill([&] { return to_bfloat16(random.normal(gain)); });
    rate.fill([&] { return std::abs(random.normal()); });
    places.fill([&] { return random.between(kPadding, kAlone); });
    out.fill([] { return NAN; });
  }

  double gate(bool decay, int64_t token, int64_t block, int64_t channel) {
    double sum = (decay ? decay_bias : input_bias)[block * g.size + channel];
    for (int64_t i = 0; i < g.size; ++i) {
      const int64_t place = (block * g.size + i) * g.size + channel;
      const double weight = g.narrow ? from_bfloat16((decay ? decay_narrow : input_narrow)[place])
                                     : (decay ? decay_wide : input_wide)[place];
      sum += weight * x[(token * g.blocks + block) * g.size + i];
    }
    return 1 / (1 + std::exp(-sum));
  }

  // The channel's value after a token.
  double next(double state, int64_t token, int64_t block, int64_t channel) {
    const int32_t place = places[token];
    if (place == kPadding) return state;
    const double log_decay = -double(rate[block * g.size + channel]) * gate(true, token, block, channel);
    const double input = x[(token * g.blocks + block) * g.size + channel] * gate(false, token, block, channel);
    if (place == kFirst) return input;
    return (place == kGoesOn ? std::exp(log_decay) * state : 0) + std::sqrt(-std::expm1(2 * log_decay)) * input;
  }
};

void check(const Variant<RecurrentChannels>& variant, Random& random, bool narrow, int64_t rows, int64_t tokens,
           int64_t blocks, int64_t size) {
  Case c(random, narrow, rows, tokens, blocks, size, int(random.between(0, 3)));
  const int64_t middle = random.between(0, size);
  for (int64_t block = 0; block < blocks; ++block) {
    variant.function(c.g, block, 0, middle);
    variant.function(c.g, block, middle, size);
  }
  const std::string where = std::string("recurrent_channels ") + variant.name + " (" + std::to_string(rows) + ", " +
                            std::to_string(tokens) + ", " + std::to_string(blocks) + ", " + std::to_string(size) + ")";
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t channel = 0; channel < blocks * size; ++channel) {
      double state = c.start[row * blocks * size + channel];
      for (int64_t token = row * tokens; token < (row + 1) * tokens; ++token) {
        state = c.next(state, token, channel / size, channel % size);
        expect_near(where, c.out[token * blocks * size + channel], state, 1e-5);
      }
    }
  }
}

}  // namespace

void check_recurrent_channels() {
  for_each_variant(recurrent_channels_portable, recurrent_channels_avx2, recurrent_channels_avx512,
                   recurrent_channels_plain512, [](const auto& variant) {
                     Random random(8);
                     for (const int64_t size : {1, 15, 16, 33, 130}) check(variant, random, size % 2, 1, 1, 2, size);
                     for (int i = 0; i < 60; ++i)
                       check(variant, random, i % 2, random.between(1, 3), random.between(1, 6), random.between(1, 3),
                             random.between(1, 70));
                   });
}
