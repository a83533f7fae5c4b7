// Loops that do nothing but reach a limit of the machine, compiled once for each instruction set from limit_loops.cc.
#pragma once

#include <cstdint>

constexpr int kLine = 64;          // bytes
constexpr int kLineWords = 16;     // of 32 bits
constexpr int kRepeats = 64;       // of a product of 64 pairs, a round: 4,096 multiply-adds
constexpr int kPairs = 64;

struct LimitLoops {
  // words ^= every line of [from, from + bytes), a last piece of a line with zeros after it; four parts of them beside
  // each other, or all in a row.
  void (*read)(const uint8_t* from, int64_t bytes, bool four, uint32_t* words);
  // rounds * kRepeats times the sum of codes[i] * x[i], in 32 bits that wrap; codes are at most 15, |x| at most 127.
  uint32_t (*int_products)(const uint8_t* codes, const int8_t* x, int64_t rounds);
  float (*float_products)(const float* weights, const float* x, int64_t rounds);
};

extern const LimitLoops limit_loops_portable, limit_loops_avx2, limit_loops_avx512;
