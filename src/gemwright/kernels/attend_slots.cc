// Attention of some tokens over some slots of a cache: only those that one of them sees are read.
//
// CMake compiles this file once for each instruction set, under the name given by ATTEND_SLOTS.
#include "attend_slots.h"

#include "exponential.h"
#include "prefetch.h"
#include "vectors.h"

namespace {

constexpr float kNothing = -3.0e38f;  // the score of what is not seen

inline bool sees(const SlotAttention& a, int32_t at, int32_t position) {
  return position >= 0 && position <= at && (a.window == 0 || int64_t{position} > int64_t{at} - a.window);
}

// The slots of a part that one of its tokens sees.
template <class Number>
struct Seen {
  const Number *keys[kSlotsTogether], *values[kSlotsTogether];
  int64_t places[kSlotsTogether];  // of (B, S, G), for the scales
  int32_t positions[kSlotsTogether];
  int count = 0;
};

template <class Number>
void find(const SlotAttention& a, const SlotPart& part, Seen<Number>& seen) {
  for (int64_t slot = part.first; slot < part.last; ++slot) {
    const int32_t position = a.positions[part.row * a.slots + slot];
    bool any = false;
    for (int64_t token = part.first_token; token < part.last_token; ++token) any |= sees(a, a.at[token], position);
    if (!any) continue;
    const int64_t place = (part.row * a.slots + slot) * a.groups + part.group;
    seen.keys[seen.count] = static_cast<const Number*>(a.keys) + place * a.size;
    seen.values[seen.count] = static_cast<const Number*>(a.values) + place * a.size;
    seen.places[seen.count] = place;
    seen.positions[seen.count++] = position;
  }
}

// Scores of kQueries heads with kSlots slots.
template <int kQueries, int kSlots, class Number>
void score(const SlotAttention& a, const float* const* queries, const Number* const* keys, float* scores) {
  Floats sums[kQueries][kSlots] = {};
  int64_t i = 0;
  for (; i + kLanes <= a.size; i += kLanes) {
    Floats key[kSlots];
    for (int s = 0; s < kSlots; ++s) key[s] = widen(keys[s] + i);
    for (int q = 0; q < kQueries; ++q) {
      const Floats query = load(queries[q] + i);
      for (int s = 0; s < kSlots; ++s) sums[q][s] += query * key[s];
    }
  }
  for (int q = 0; q < kQueries; ++q) {
    for (int s = 0; s < kSlots; ++s) {
      float sum = total(sums[q][s]);
      for (int64_t j = i; j < a.size; ++j) sum += queries[q][j] * widen_one(keys[s][j]);
      scores[q * kSlotsTogether + s] = sum;
    }
  }
}

// Scores of one query to exponentials of their distances from the largest; gives the largest and their sum.
template <class Number>
void weigh(const SlotAttention& a, const Seen<Number>& seen, int32_t at, float* scores, float* largest, float* sum) {
  const int count = seen.count;
  if (a.cell == Cell::kInt8)
    for (int s = 0; s < count; ++s) scores[s] *= a.key_scales[seen.places[s]];
  for (int s = count; s % kLanes; ++s) scores[s] = 0;  // room is a multiple of every vector
  if (a.cap > 0)
    for (int s = 0; s < count; s += kLanes) store(scores + s, capped(load(scores + s), a.cap));
  float most = kNothing;
  for (int s = 0; s < count; ++s) {
    scores[s] = sees(a, at, seen.positions[s]) ? scores[s] : kNothing;
    most = scores[s] > most ? scores[s] : most;
  }
  for (int s = 0; s < count; s += kLanes) store(scores + s, exponential(load(scores + s) - most));
  float whole = 0;
  for (int s = 0; s < count; ++s) {
    scores[s] = sees(a, at, seen.positions[s]) ? scores[s] : 0.0f;
    whole += scores[s];
  }
  if (a.cell == Cell::kInt8)
    for (int s = 0; s < count; ++s) scores[s] *= a.value_scales[seen.places[s]];
  *largest = most;
  *sum = whole;
}

// Values weighted for kQueries heads, in kWide vectors at once.
template <int kQueries, int kWide, class Number>
int64_t mix_vectors(const SlotAttention& a, const Seen<Number>& seen, const float* scores, int64_t i, float* out) {
  for (; i + kWide * kLanes <= a.size; i += kWide * kLanes) {
    Floats sums[kQueries][kWide] = {};
    for (int s = 0; s < seen.count; ++s) {
      Floats value[kWide];
      for (int w = 0; w < kWide; ++w) value[w] = widen(seen.values[s] + i + w * kLanes);
      for (int q = 0; q < kQueries; ++q)
        for (int w = 0; w < kWide; ++w) sums[q][w] += value[w] * scores[q * kSlotsTogether + s];
    }
    for (int q = 0; q < kQueries; ++q)
      for (int w = 0; w < kWide; ++w) store(out + q * (a.size + 2) + 2 + i + w * kLanes, sums[q][w]);
  }
  return i;
}

template <int kQueries, class Number>
void mix(const SlotAttention& a, const Seen<Number>& seen, const float* scores, float* out) {
  int64_t i = mix_vectors<kQueries, 2>(a, seen, scores, 0, out);
  i = mix_vectors<kQueries, 1>(a, seen, scores, i, out);
  for (; i < a.size; ++i) {
    for (int q = 0; q < kQueries; ++q) {
      float sum = 0;
      for (int s = 0; s < seen.count; ++s) sum += widen_one(seen.values[s][i]) * scores[q * kSlotsTogether + s];
      out[q * (a.size + 2) + 2 + i] = sum;
    }
  }
}

// Values are first read some columns of all slots at a time, an order in which no processor guesses the next line.
template <class Number>
ASKS void ask(const SlotAttention& a, const Number* values) {
  for (int64_t byte = 0; byte < a.size * int64_t(sizeof(Number)); byte += 64) prefetch(values, byte);
}

// Queries first to first + kQueries of the part, counted over tokens and then heads.
template <int kQueries, class Number>
void some_queries(const SlotAttention& a, const SlotPart& part, const Seen<Number>& seen, int64_t first) {
  const float* queries[kQueries];
  float scores[kQueries * kSlotsTogether];
  float* out = part.out + first * (a.size + 2);
  for (int q = 0; q < kQueries; ++q) {
    const int64_t token = part.first_token + (first + q) / a.heads, head = (first + q) % a.heads;
    queries[q] = a.queries + ((token * a.groups + part.group) * a.heads + head) * a.size;
  }
  int s = 0;
  for (; s + 2 <= seen.count; s += 2) {
    if (first == 0) {
      ask(a, seen.values[s]), ask(a, seen.values[s + 1]);
      if (s + 9 < seen.count) ask(a, seen.keys[s + 8]), ask(a, seen.keys[s + 9]);
    }
    score<kQueries, 2>(a, queries, seen.keys + s, scores + s);
  }
  if (s < seen.count) score<kQueries, 1>(a, queries, seen.keys + s, scores + s);
  for (int q = 0; q < kQueries; ++q) {
    float* result = out + q * (a.size + 2);
    const int32_t at = a.at[part.first_token + (first + q) / a.heads];
    weigh(a, seen, at, scores + q * kSlotsTogether, result, result + 1);
  }
  mix<kQueries>(a, seen, scores, out);
}

template <class Number>
void attend(const SlotAttention& a, const SlotPart& part) {
  Seen<Number> seen;
  find(a, part, seen);
  const int64_t queries = (part.last_token - part.first_token) * a.heads;
  if (seen.count == 0) {
    for (int64_t q = 0; q < queries; ++q) part.out[q * (a.size + 2) + 1] = 0;
    return;
  }
  int64_t q = 0;
  if constexpr (kLanes == 16)  // which has the registers
    for (; q + 8 <= queries; q += 8) some_queries<8>(a, part, seen, q);
  for (; q + 4 <= queries; q += 4) some_queries<4>(a, part, seen, q);
  for (; q < queries; ++q) some_queries<1>(a, part, seen, q);
}

}  // namespace

void ATTEND_SLOTS(const SlotAttention& a, const SlotPart& part) {
  switch (a.cell) {
    case Cell::kBFloat16: return attend<uint16_t>(a, part);
    case Cell::kFloat: return attend<float>(a, part);
    case Cell::kInt8: return attend<int8_t>(a, part);
  }
}
