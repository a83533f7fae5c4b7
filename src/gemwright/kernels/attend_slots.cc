// Attention of one query over some slots of a cache: only those that it sees are read.
//
// CMake compiles this file once for each instruction set, under the name given by ATTEND_SLOTS.
#include "attend_slots.h"

#include "vectors.h"

namespace {

constexpr float kLeast = -87.0f;  // its exponential is the smallest normal float

// Of the polynomial for e^x - 1 - x, over x squared (Cephes, expf.c).
constexpr float kCoefficients[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                   4.1665795894e-2f, 1.6666665459e-1f, 0.5f};

// e^x for x <= 0, to about one unit in the last place: 2^n times a polynomial in the rest.
inline Floats exponential(Floats x) {
  x = x > kLeast ? x : Floats{} + kLeast;
  const Floats shifted = x * 1.44269504f + 12582912.0f;  // rounds to an integer in the low bits
  const Floats n = shifted - 12582912.0f;
  const Floats rest = (x - n * 0.693359375f) + n * 2.12194440e-4f;
  Floats sum = {};
  for (const float coefficient : kCoefficients) sum = sum * rest + coefficient;
  sum = sum * rest * rest + rest + 1.0f;
  return (Floats)((Words)sum + ((Words)shifted << 23));
}

// tanh from the exponential of a number that is never positive.
inline Floats capped(Floats x, float cap) {
  const Floats size = x < 0.0f ? -x : x;
  const Floats small = exponential(size * (-2.0f / cap));
  const Floats bent = (1.0f - small) / (1.0f + small) * cap;
  return x < 0.0f ? -bent : bent;
}

inline bool sees(const SlotAttention& a, int32_t at, int32_t position) {
  return position >= 0 && position <= at && (a.window == 0 || int64_t{position} > int64_t{at} - a.window);
}

// Scores of kHeads heads with kSlots slots.
template <int kHeads, int kSlots>
void score(const SlotAttention& a, const float* queries, const uint16_t* const* keys, float* scores) {
  Floats sums[kHeads][kSlots] = {};
  int64_t i = 0;
  for (; i + kLanes <= a.size; i += kLanes) {
    Floats key[kSlots];
    for (int s = 0; s < kSlots; ++s) key[s] = widen(keys[s] + i);
    for (int h = 0; h < kHeads; ++h) {
      const Floats query = load(queries + h * a.size + i);
      for (int s = 0; s < kSlots; ++s) sums[h][s] += query * key[s];
    }
  }
  for (int h = 0; h < kHeads; ++h) {
    for (int s = 0; s < kSlots; ++s) {
      float sum = total(sums[h][s]);
      for (int64_t j = i; j < a.size; ++j) sum += queries[h * a.size + j] * widen_one(keys[s][j]);
      scores[h * kSlotsTogether + s] = sum;
    }
  }
}

// Scores to exponentials of their distances from the largest; returns the largest and their sum.
void weigh(const SlotAttention& a, int count, float* scores, float* largest, float* sum) {
  for (int s = count; s % kLanes; ++s) scores[s] = scores[0];  // room is a multiple of every vector
  float most = -3.0e38f;
  for (int s = 0; s < count; s += kLanes) {
    Floats some = load(scores + s);
    if (a.cap > 0) some = capped(some, a.cap);
    store(scores + s, some);
    for (int lane = 0; lane < kLanes; ++lane) most = some[lane] > most ? some[lane] : most;
  }
  float whole = 0;
  for (int s = 0; s < count; s += kLanes) {
    store(scores + s, exponential(load(scores + s) - most));
    for (int lane = 0; lane < kLanes && s + lane < count; ++lane) whole += scores[s + lane];
  }
  *largest = most;
  *sum = whole;
}

// Values weighted for kHeads heads.
template <int kHeads>
void mix(const SlotAttention& a, int count, const float* scores, const uint16_t* const* values, float* out) {
  const int64_t stride = a.size + 2;
  int64_t i = 0;
  for (; i + kLanes <= a.size; i += kLanes) {
    Floats sums[kHeads] = {};
    for (int s = 0; s < count; ++s) {
      const Floats value = widen(values[s] + i);
      for (int h = 0; h < kHeads; ++h) sums[h] += value * scores[h * kSlotsTogether + s];
    }
    for (int h = 0; h < kHeads; ++h) store(out + h * stride + 2 + i, sums[h]);
  }
  for (; i < a.size; ++i) {
    for (int h = 0; h < kHeads; ++h) {
      float sum = 0;
      for (int s = 0; s < count; ++s) sum += widen_one(values[s][i]) * scores[h * kSlotsTogether + s];
      out[h * stride + 2 + i] = sum;
    }
  }
}

template <int kHeads>
void some_heads(const SlotAttention& a, int count, const float* queries, const uint16_t* const* keys,
                const uint16_t* const* values, float* scores, float* out) {
  int s = 0;
  for (; s + 2 <= count; s += 2) score<kHeads, 2>(a, queries, keys + s, scores + s);
  if (s < count) score<kHeads, 1>(a, queries, keys + s, scores + s);
  for (int h = 0; h < kHeads; ++h) {
    float* result = out + h * (a.size + 2);
    weigh(a, count, scores + h * kSlotsTogether, result, result + 1);
  }
  mix<kHeads>(a, count, scores, values, out);
}

}  // namespace

void ATTEND_SLOTS(const SlotAttention& a, const SlotPart& part) {
  const uint16_t *keys[kSlotsTogether], *values[kSlotsTogether];
  int count = 0;
  for (int64_t slot = part.first; slot < part.last; ++slot) {
    const int64_t place = part.row * a.slots + slot;
    if (!sees(a, a.at[part.row], a.positions[place])) continue;
    keys[count] = a.keys + (place * a.groups + part.group) * a.size;
    values[count++] = a.values + (place * a.groups + part.group) * a.size;
  }
  if (count == 0) {
    std::memset(part.out, 0, size_t(a.heads * (a.size + 2)) * sizeof(float));
    return;
  }
  const float* queries = a.queries + (part.row * a.groups + part.group) * a.heads * a.size;
  int64_t h = 0;
  for (; h < a.heads; h += h + 4 <= a.heads ? 4 : 1) {
    float *scores = part.scores + h * kSlotsTogether, *out = part.out + h * (a.size + 2);
    if (h + 4 <= a.heads) {
      some_heads<4>(a, count, queries + h * a.size, keys, values, scores, out);
    } else {
      some_heads<1>(a, count, queries + h * a.size, keys, values, scores, out);
    }
  }
}
