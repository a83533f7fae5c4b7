// The arithmetic of attention among the tokens of one call, forwards and backwards, compiled once for each instruction
// set from attend_text.cc. Scores are held for a block of queries and a block of keys at a time, never all of them
// (Dao, arXiv 2307.08691).
#pragma once

#include <cstdint>

// Letters as in core/ops.py: B texts, T tokens, G key heads, each with H / G query heads, K the size of a head.
// P is K made up to a multiple of every vector, with zeros.
struct TextAttention {
  const void* queries;                 // (B, T, H, K), scaled
  const float *keys, *values;          // (B, G, T, P)
  const int32_t *positions, *segments; // (B, T); a negative position is padding
  bool narrow;                         // queries and results are bfloat16, else float32
  int64_t tokens, groups, heads;       // heads of one group
  int64_t size, padded;
  int64_t window;                      // keys seen, the query's own included; 0 for all
  float cap;                           // soft cap of the scores; 0 for none
};

// Queries of one text and group as rows, heads of a token beside each other: row r is head r % heads of token r / heads.
struct TextRows {
  int64_t text, group, first, last;  // at most kRowsTogether
};

constexpr int kRowsTogether = 64, kKeysTogether = 64;

struct TextResult {
  void* out;            // (B, T, H, K)
  float* log_divisors;  // (B, T, H) of the softmax; larger than any score where nothing is seen
};

struct TextGradient {
  const void *out, *out_gradient;  // (B, T, H, K)
  const float* log_divisors;
  void* query_gradient;            // (B, T, H, K)
  float *to_keys, *to_values;      // (T, P) sums of this text and group, added to
};

// Floats of a call's room, which starts at a multiple of 64 bytes.
inline int64_t attend_text_room(int64_t padded) { return kRowsTogether * (5 * padded + 2 * kKeysTogether); }

using AttendText = void(const TextAttention& attention, const TextRows& rows, const TextResult& result, float* room);
using AttendTextBack = void(const TextAttention& attention, const TextRows& rows, const TextGradient& gradient,
                            float* room);

AttendText attend_text_portable, attend_text_avx2, attend_text_avx512;
AttendTextBack attend_text_back_portable, attend_text_back_avx2, attend_text_back_avx512;
