// Attention among the tokens of one call: blocks of queries against blocks of the keys that one of them sees.
//
// CMake compiles this file once for each instruction set, under the names given by ATTEND_TEXT and ATTEND_TEXT_BACK.
// Scores and their exponentials stand as (keys, rows), so that all of the softmax is arithmetic of vectors of rows.
#include "attend_text.h"

#include "exponential.h"
#include "vectors.h"

namespace {

constexpr int kVectors = kRowsTogether / kLanes;
constexpr float kNothing = -3.0e38f, kMore = 3.0e38f;
#if defined(__AVX512F__)
constexpr int kWidest = 4;  // vectors of a tile's rows, of which there are four: as many as registers hold
#else
constexpr int kWidest = 2;
#endif

typedef int32_t Ints __attribute__((vector_size(4 * kLanes)));

// ------------------------------------------------------------------------------- products of blocks

// A matrix that is read one element at a time: (i, j) stands at `at[i * row + j * column]`.
struct Elements {
  const float* at;
  int64_t row, column;
};

template <int kHigh, int kWide>
void tile(Elements a, const float* b, int64_t b_row, int64_t depth, float* c, int64_t c_row, bool add) {
  Floats sums[kHigh][kWide] = {};
  for (int64_t k = 0; k < depth; ++k) {
    Floats row[kWide];
    for (int w = 0; w < kWide; ++w) row[w] = load(b + k * b_row + w * kLanes);
    for (int i = 0; i < kHigh; ++i)
      for (int w = 0; w < kWide; ++w) sums[i][w] += row[w] * a.at[i * a.row + k * a.column];
  }
  for (int i = 0; i < kHigh; ++i) {
    for (int w = 0; w < kWide; ++w) {
      float* to = c + i * c_row + w * kLanes;
      store(to, add ? load(to) + sums[i][w] : sums[i][w]);
    }
  }
}

template <int kWide>
void stripe(int high, Elements a, const float* b, int64_t b_row, int64_t depth, float* c, int64_t c_row, bool add) {
  int i = 0;
  for (; i + 4 <= high; i += 4)
    tile<4, kWide>({a.at + i * a.row, a.row, a.column}, b, b_row, depth, c + i * c_row, c_row, add);
  for (; i < high; ++i)
    tile<1, kWide>({a.at + i * a.row, a.row, a.column}, b, b_row, depth, c + i * c_row, c_row, add);
}

// c (high, wide) = a (high, depth) b (depth, wide), or adds it; wide is a multiple of kLanes.
void multiply(int high, int64_t wide, int64_t depth, Elements a, const float* b, int64_t b_row, float* c,
              int64_t c_row, bool add) {
  int64_t j = 0;
  for (; j + kWidest * kLanes <= wide; j += kWidest * kLanes)
    stripe<kWidest>(high, a, b + j, b_row, depth, c + j, c_row, add);
  for (; j < wide; j += kLanes) stripe<1>(high, a, b + j, b_row, depth, c + j, c_row, add);
}

// -------------------------------------------------------------------------------- who sees whom

// What the rows of a block look from; rows that are none see nothing.
struct Looking {
  Ints at[kVectors], segment[kVectors];
  int32_t window, least_at = INT32_MAX, last_token = 0;
};

Looking looking(const TextAttention& a, const TextRows& rows) {
  Looking from;
  from.window = a.window > 0 && a.window < (1 << 30) ? int32_t(a.window) : 1 << 30;
  int32_t at[kRowsTogether], segments[kRowsTogether];
  for (int64_t r = 0; r < kRowsTogether; ++r) {
    const int64_t row = rows.first + r, place = rows.text * a.tokens + row / a.heads;
    at[r] = row < rows.last ? a.positions[place] : -1;
    segments[r] = row < rows.last ? a.segments[place] : 0;
    if (at[r] >= 0 && at[r] < from.least_at) from.least_at = at[r];
  }
  from.last_token = int32_t((rows.last - 1) / a.heads);
  std::memcpy(from.at, at, sizeof at);
  std::memcpy(from.segment, segments, sizeof segments);
  return from;
}

// A block of keys.
struct Keys {
  int64_t first, count;
  const int32_t *positions, *segments;
};

Ints seen(const Looking& from, int vector, const Keys& keys, int64_t key) {
  const int32_t position = keys.positions[key];
  if (position < 0) return Ints{};
  return (from.at[vector] >= position) & (from.at[vector] - from.window < position) &
         (from.segment[vector] == keys.segments[key]);
}

// The next block of keys from `first` on, of which some may be seen; count 0 after the last.
Keys keys_from(const TextAttention& a, const TextRows& rows, const Looking& from, int64_t first) {
  const int32_t* positions = a.positions + rows.text * a.tokens;
  const int32_t* segments = a.segments + rows.text * a.tokens;
  for (; first <= from.last_token; first += kKeysTogether) {
    int64_t count = a.tokens - first;
    if (count > kKeysTogether) count = kKeysTogether;
    if (count > from.last_token + 1 - first) count = from.last_token + 1 - first;
    int32_t latest = -1;
    for (int64_t s = first; s < first + count; ++s) latest = positions[s] > latest ? positions[s] : latest;
    // All are too far back, or padding.
    if (latest < 0 || latest <= int64_t{from.least_at} - from.window) continue;
    const Keys keys{first, count, positions + first, segments + first};
    Ints any = {};
    for (int64_t s = 0; s < count; ++s)
      for (int v = 0; v < kVectors; ++v) any |= seen(from, v, keys, s);
    if (folded(any, [](auto x, auto y) { return x | y; }) != 0) return keys;
  }
  return {first, 0, nullptr, nullptr};
}

// ---------------------------------------------------------------------------------- reading, writing

int64_t row_place(const TextAttention& a, const TextRows& rows, int64_t row) {
  const int64_t token = rows.text * a.tokens + row / a.heads;
  return (token * a.groups + rows.group) * a.heads + row % a.heads;
}

// Rows of a (B, T, H, K) array as (rows, P), zeros where there are none, and where asked for as (P, rows) too.
template <class Number>
void read(const TextAttention& a, const TextRows& rows, const void* from, float* as_rows, float* as_columns) {
  for (int64_t r = 0; r < kRowsTogether; ++r) {
    float* to = as_rows + r * a.padded;
    int64_t i = 0;
    if (rows.first + r < rows.last) {
      const Number* row = static_cast<const Number*>(from) + row_place(a, rows, rows.first + r) * a.size;
      for (; i + kLanes <= a.size; i += kLanes) store(to + i, widen(row + i));
      for (; i < a.size; ++i) to[i] = widen_one(row[i]);
    }
    for (; i < a.padded; ++i) to[i] = 0;
  }
  if (as_columns == nullptr) return;
  for (int64_t i = 0; i < a.padded; ++i)
    for (int64_t r = 0; r < kRowsTogether; ++r) as_columns[i * kRowsTogether + r] = as_rows[r * a.padded + i];
}

template <class Number>
void write(const TextAttention& a, const TextRows& rows, const float* from, void* out) {
  for (int64_t row = rows.first; row < rows.last; ++row, from += a.padded) {
    Number* to = static_cast<Number*>(out) + row_place(a, rows, row) * a.size;
    int64_t i = 0;
    for (; i + kLanes <= a.size; i += kLanes) store(to + i, load(from + i));
    if (i == a.size) continue;
    Number rest[kLanes];
    store(rest, load(from + i));
    for (int64_t j = i; j < a.size; ++j) to[j] = rest[j - i];
  }
}

const float* of_group(const TextAttention& a, const TextRows& rows, const float* matrix, int64_t token) {
  return matrix + ((rows.text * a.groups + rows.group) * a.tokens + token) * a.padded;
}

// ----------------------------------------------------------------------------------------- forwards

// The softmax so far, of each row.
struct Softmax {
  Floats most[kVectors], sum[kVectors], shrinks[kVectors];  // the last: what sums so far are multiplied by
};

// Scores of a block of keys to exponentials of their distances from the largest so far.
void weigh(const TextAttention& a, const Looking& from, const Keys& keys, float* scores, Softmax& softmax) {
  for (int v = 0; v < kVectors; ++v) {
    float* column = scores + v * kLanes;
    Floats most = softmax.most[v], sum = {};
    for (int64_t s = 0; s < keys.count; ++s) {
      const Floats plain = load(column + s * kRowsTogether), bent = a.cap > 0 ? capped(plain, a.cap) : plain;
      const Floats score = seen(from, v, keys, s) ? bent : Floats{} + kNothing;
      most = score > most ? score : most;
      store(column + s * kRowsTogether, score);
    }
    for (int64_t s = 0; s < keys.count; ++s) {
      const Floats score = load(column + s * kRowsTogether);
      // The difference is 0, or no number where the score is none, which neither comparison nor exponential keeps.
      const Floats share = score <= kNothing ? Floats{} : exponential(score - most) + (score - score);
      sum += share;
      store(column + s * kRowsTogether, share);
    }
    softmax.shrinks[v] = exponential(softmax.most[v] - most);
    softmax.sum[v] = softmax.sum[v] * softmax.shrinks[v] + sum;
    softmax.most[v] = most;
  }
}

void shrink(const TextAttention& a, const Softmax& softmax, float* mixed) {
  float by[kRowsTogether];
  std::memcpy(by, softmax.shrinks, sizeof by);
  for (int64_t r = 0; r < kRowsTogether; ++r) {
    if (by[r] == 1) continue;
    for (int64_t i = 0; i < a.padded; i += kLanes) store(mixed + r * a.padded + i, load(mixed + r * a.padded + i) * by[r]);
  }
}

template <class Number>
void attend(const TextAttention& a, const TextRows& rows, const TextResult& result, float* room) {
  float *mixed = room, *columns = mixed + kRowsTogether * a.padded, *scores = columns + kRowsTogether * a.padded;
  read<Number>(a, rows, a.queries, mixed, columns);
  for (int64_t i = 0; i < kRowsTogether * a.padded; ++i) mixed[i] = 0;
  Softmax softmax = {};
  for (Floats& most : softmax.most) most += kNothing;
  const Looking from = looking(a, rows);
  for (Keys keys = keys_from(a, rows, from, 0); keys.count > 0;
       keys = keys_from(a, rows, from, keys.first + kKeysTogether)) {
    multiply(int(keys.count), kRowsTogether, a.padded, {of_group(a, rows, a.keys, keys.first), a.padded, 1}, columns,
             kRowsTogether, scores, kRowsTogether, false);
    weigh(a, from, keys, scores, softmax);
    shrink(a, softmax, mixed);
    multiply(kRowsTogether, a.padded, keys.count, {scores, 1, kRowsTogether}, of_group(a, rows, a.values, keys.first),
             a.padded, mixed, a.padded, true);
  }
  float most[kRowsTogether], sums[kRowsTogether];
  std::memcpy(most, softmax.most, sizeof most);
  std::memcpy(sums, softmax.sum, sizeof sums);
  for (int64_t row = rows.first; row < rows.last; ++row) {
    const int64_t r = row - rows.first;
    const float share = sums[r] == 0 ? 0.0f : 1.0f / sums[r];
    for (int64_t i = 0; i < a.padded; ++i) mixed[r * a.padded + i] *= share;
    result.log_divisors[row_place(a, rows, row)] = sums[r] == 0 ? kMore : most[r] + __builtin_logf(sums[r]);
  }
  write<Number>(a, rows, mixed, result.out);
}

// ---------------------------------------------------------------------------------------- backwards

// What the softmax's derivative needs of each row.
struct Divided {
  Floats log_divisors[kVectors], along[kVectors];  // along: the products of the results with their gradients
};

template <class Number>
float product(const Number* one, const float* other, int64_t count) {
  Floats sums = {};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += widen(one + i) * load(other + i);
  float sum = total(sums);
  for (; i < count; ++i) sum += widen_one(one[i]) * other[i];
  return sum;
}

template <class Number>
Divided divided(const TextAttention& a, const TextRows& rows, const TextGradient& gradient, const float* out_gradient) {
  float divisors[kRowsTogether], along[kRowsTogether] = {};
  for (int64_t r = 0; r < kRowsTogether; ++r) {
    divisors[r] = kMore;
    if (rows.first + r >= rows.last) continue;
    const int64_t place = row_place(a, rows, rows.first + r);
    divisors[r] = gradient.log_divisors[place];
    along[r] = product(static_cast<const Number*>(gradient.out) + place * a.size, out_gradient + r * a.padded, a.size);
  }
  Divided found;
  std::memcpy(found.log_divisors, divisors, sizeof divisors);
  std::memcpy(found.along, along, sizeof along);
  return found;
}

// Scores and gradients of their shares to shares and gradients of the scores.
void slope(const TextAttention& a, const Looking& from, const Keys& keys, const Divided& by, float* scores,
           float* gradients) {
  for (int64_t s = 0; s < keys.count; ++s) {
    for (int v = 0; v < kVectors; ++v) {
      const int64_t place = s * kRowsTogether + v * kLanes;
      const Floats plain = load(scores + place), bent = a.cap > 0 ? capped(plain, a.cap) : plain;
      // A divisor that is no number makes none of its row's shares, which the exponential would not.
      const Floats divisor = by.log_divisors[v], number = exponential(bent - divisor) + (divisor - divisor);
      const Floats share = seen(from, v, keys, s) ? number : Floats{};
      Floats gradient = share * (load(gradients + place) - by.along[v]);
      if (a.cap > 0) gradient *= 1.0f - bent * bent / (a.cap * a.cap);
      store(scores + place, share);
      store(gradients + place, gradient);
    }
  }
}

template <class Number>
void attend_back(const TextAttention& a, const TextRows& rows, const TextGradient& gradient, float* room) {
  const int64_t block = kRowsTogether * a.padded;
  float *queries = room, *query_columns = room + block, *outs = room + 2 * block, *out_columns = room + 3 * block;
  float *to_queries = room + 4 * block, *scores = room + 5 * block, *slopes = scores + kRowsTogether * kKeysTogether;
  read<Number>(a, rows, a.queries, queries, query_columns);
  read<Number>(a, rows, gradient.out_gradient, outs, out_columns);
  for (int64_t i = 0; i < block; ++i) to_queries[i] = 0;
  const Divided by = divided<Number>(a, rows, gradient, outs);
  const Looking from = looking(a, rows);
  for (Keys keys = keys_from(a, rows, from, 0); keys.count > 0;
       keys = keys_from(a, rows, from, keys.first + kKeysTogether)) {
    const float *key_rows = of_group(a, rows, a.keys, keys.first), *values = of_group(a, rows, a.values, keys.first);
    multiply(int(keys.count), kRowsTogether, a.padded, {key_rows, a.padded, 1}, query_columns, kRowsTogether, scores,
             kRowsTogether, false);
    multiply(int(keys.count), kRowsTogether, a.padded, {values, a.padded, 1}, out_columns, kRowsTogether, slopes,
             kRowsTogether, false);
    slope(a, from, keys, by, scores, slopes);
    multiply(int(keys.count), a.padded, kRowsTogether, {scores, kRowsTogether, 1}, outs, a.padded,
             gradient.to_values + keys.first * a.padded, a.padded, true);
    multiply(int(keys.count), a.padded, kRowsTogether, {slopes, kRowsTogether, 1}, queries, a.padded,
             gradient.to_keys + keys.first * a.padded, a.padded, true);
    multiply(kRowsTogether, a.padded, keys.count, {slopes, 1, kRowsTogether}, key_rows, a.padded, to_queries, a.padded,
             true);
  }
  write<Number>(a, rows, to_queries, gradient.query_gradient);
}

}  // namespace

void ATTEND_TEXT(const TextAttention& attention, const TextRows& rows, const TextResult& result, float* room) {
  (attention.narrow ? attend<uint16_t> : attend<float>)(attention, rows, result, room);
}

void ATTEND_TEXT_BACK(const TextAttention& attention, const TextRows& rows, const TextGradient& gradient, float* room) {
  (attention.narrow ? attend_back<uint16_t> : attend_back<float>)(attention, rows, gradient, room);
}
