// h[t] = a h[t-1] + sqrt(1 - a^2) (gate x), where both gates of a channel are opened by the channels of its block.
//
// CMake compiles this file once for each instruction set, under the name given by RECURRENT_CHANNELS.
#include "recurrent_channels.h"

#include "exponential.h"
#include "prefetch.h"
#include "vectors.h"

namespace {

// Tokens multiplied at once, so that a loaded vector of weights is used for all of them; and vectors of channels. A
// token alone waits for memory, which is read the faster the more of a row is read together.
constexpr int kTogether = kLanes == 16 ? 4 : 2, kWide = 2, kWideAlone = kLanes == 16 ? 8 : 4;
constexpr int64_t kAhead = 16;  // inputs by which weights are asked for before they are needed

inline Floats root(Floats x) {
  for (int lane = 0; lane < kLanes; ++lane) x[lane] = __builtin_sqrtf(x[lane]);
  return x;
}

// 1 / (1 + e^-x), from the exponential of a number that is never positive.
inline Floats sigmoid(Floats x) {
  const Floats small = exponential(x < 0.0f ? x : -x);
  return (x < 0.0f ? small : Floats{} + 1.0f) / (1.0f + small);
}

// Neighbouring channels of one block: kCount vectors, or less than one of which `left` count.
template <int kCount, class Number>
class Channels {
 public:
  Channels(const GatedRecurrence& g, int64_t block, int64_t first, int64_t left)
      : g_(g), width_(g.blocks * g.size), x_(block * g.size), at_(x_ + first), left_(left) {
    input_gate_ = static_cast<const Number*>(g.input_gate) + block * g.size * g.size + first;
    decay_gate_ = static_cast<const Number*>(g.decay_gate) + block * g.size * g.size + first;
    for (int v = 0; v < kCount; ++v) {
      input_bias_[v] = part(g.input_bias + at_, v);
      decay_bias_[v] = part(g.decay_bias + at_, v);
      rate_[v] = part(g.rate + at_, v);
    }
  }

  void all_tokens() {
    const int64_t count = g_.rows * g_.tokens;
    int64_t token = 0;
    if constexpr (kCount <= kWide)  // else the sums would not stay in registers
      for (; token + kTogether <= count; token += kTogether) some_tokens<kTogether>(token);
    for (; token < count; ++token) some_tokens<1>(token);
  }

 private:
  bool whole() const { return kCount > 1 || left_ >= kLanes; }

  template <class Element>
  Floats part(const Element* from, int v) const {
    if (whole()) return widen(from + v * kLanes);
    Element padded[kLanes] = {};
    for (int64_t i = 0; i < left_; ++i) padded[i] = from[i];
    return widen(padded);
  }

  template <int kTokens>
  void some_tokens(int64_t token) {
    Floats inputs[kTokens][kCount] = {}, decays[kTokens][kCount] = {};
    const float* x = g_.x + token * width_ + x_;
    for (int64_t i = 0; i < g_.size; ++i) {
      const Number *input_gate = input_gate_ + i * g_.size, *decay_gate = decay_gate_ + i * g_.size;
      for (int v = 0; v < kCount; ++v) {
        prefetch(input_gate + v * kLanes, kAhead * g_.size * int64_t(sizeof(Number)));
        prefetch(decay_gate + v * kLanes, kAhead * g_.size * int64_t(sizeof(Number)));
        const Floats input = part(input_gate, v), decay = part(decay_gate, v);
        for (int t = 0; t < kTokens; ++t) {
          inputs[t][v] += input * x[t * width_ + i];
          decays[t][v] += decay * x[t * width_ + i];
        }
      }
    }
    for (int t = 0; t < kTokens; ++t)
      for (int v = 0; v < kCount; ++v) go_on(token + t, v, inputs[t][v] + input_bias_[v], decays[t][v] + decay_bias_[v]);
  }

  // One token's step of one vector.
  void go_on(int64_t token, int v, Floats input_gate, Floats decay_gate) {
    if (token % g_.tokens == 0) state_[v] = part(g_.start + token / g_.tokens * width_ + at_, v);
    const int32_t place = g_.places[token];
    if (place != kPadding) {
      const Floats log_decay = -rate_[v] * sigmoid(decay_gate);
      const Floats input = part(g_.x + token * width_ + at_, v) * sigmoid(input_gate);
      const Floats scaled = place == kFirst ? input : input * root(one_less_exponential(2.0f * log_decay));
      state_[v] = place == kGoesOn ? exponential(log_decay) * state_[v] + scaled : scaled;
    }
    float* out = g_.out + token * width_ + at_ + v * kLanes;
    if (whole()) return store(out, state_[v]);
    for (int64_t i = 0; i < left_; ++i) out[i] = state_[v][i];
  }

  GatedRecurrence g_;
  int64_t width_, x_, at_, left_;
  const Number *input_gate_, *decay_gate_;
  Floats input_bias_[kCount], decay_bias_[kCount], rate_[kCount], state_[kCount] = {};
};

template <int kCount, class Number>
int64_t in_vectors(const GatedRecurrence& g, int64_t block, int64_t first, int64_t last) {
  constexpr int64_t together = kCount * kLanes;
  for (; first + together <= last; first += together) Channels<kCount, Number>(g, block, first, together).all_tokens();
  return first;
}

template <class Number>
void all_channels(const GatedRecurrence& g, int64_t block, int64_t first, int64_t last) {
  if (g.rows * g.tokens < kTogether) first = in_vectors<kWideAlone, Number>(g, block, first, last);
  first = in_vectors<kWide, Number>(g, block, first, last);
  for (; first < last; first += kLanes) Channels<1, Number>(g, block, first, last - first).all_tokens();
}

}  // namespace

void RECURRENT_CHANNELS(const GatedRecurrence& g, int64_t block, int64_t first, int64_t last) {
  g.narrow ? all_channels<uint16_t>(g, block, first, last) : all_channels<float>(g, block, first, last);
}
