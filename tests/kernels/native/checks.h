// What all checks of the kernels share: random numbers, memory of the exact size, comparison, instruction sets.
#pragma once

#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <string>

#include "levels.h"

constexpr double kUnit = 0x1p-24;  // the relative error of one rounding to float32

// `count` values that end where their memory ends, so that the sanitizer sees the first byte read beyond them. They
// begin `shift` values after the memory's beginning: kernels must not count on more than a value's own alignment.
template <class T>
class Exact {
 public:
  explicit Exact(int64_t count, int shift = 0)
      : memory_(static_cast<T*>(std::malloc((size_t(count) + size_t(shift)) * sizeof(T)))), shift_(shift), count_(count) {
    if (memory_ == nullptr && count + shift > 0) std::abort();
  }
  ~Exact() { std::free(memory_); }
  Exact(const Exact&) = delete;
  Exact& operator=(const Exact&) = delete;

  T* data() { return memory_ + shift_; }
  T& operator[](int64_t i) { return data()[i]; }
  int64_t size() const { return count_; }

  template <class Draw>
  void fill(Draw draw) {
    for (int64_t i = 0; i < count_; ++i) data()[i] = T(draw());
  }

 private:
  T* memory_;
  int shift_;
  int64_t count_;
};

class Random {
 public:
  explicit Random(uint32_t seed) : engine_(seed) {}
  int64_t between(int64_t least, int64_t most) { return std::uniform_int_distribution<int64_t>(least, most)(engine_); }
  float normal(float deviation = 1) { return std::normal_distribution<float>(0, deviation)(engine_); }

 private:
  std::mt19937 engine_;
};

inline float from_bfloat16(uint16_t half) {
  const uint32_t word = uint32_t{half} << 16;
  float value;
  std::memcpy(&value, &word, sizeof value);
  return value;
}

inline uint16_t to_bfloat16(float value) {  // cut off: any bfloat16 near the value will do
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return uint16_t(word >> 16);
}

// Ends the program unless the value is the expected one.
inline void expect_near(const std::string& what, double found, double expected, double tolerance) {
  if (std::abs(found - expected) <= tolerance) return;  // false for what is not a number
  std::fprintf(stderr, "FAILED %s: expected %.9g within %.3g, found %.9g\n", what.c_str(), expected, tolerance, found);
  std::exit(1);
}

// A kernel compiled for one instruction set.
template <class Function>
struct Variant {
  const char* name;
  Function* function;
};

// Calls check(variant) for the variants that this machine can run. `plain512` is the text for AVX-512 over
// avx512_in_plain_cpp.h, which every machine can.
template <class Function, class Check>
void for_each_variant(Function* portable, [[maybe_unused]] Function* avx2, [[maybe_unused]] Function* avx512,
                      Function* plain512, Check check) {
  check(Variant<Function>{"portable", portable});
#if defined(GEMWRIGHT_X86)
  if (choose_level("avx2") != Level::kNone) check(Variant<Function>{"avx2", avx2});
  if (choose_level("avx512") != Level::kNone) check(Variant<Function>{"avx512", avx512});
#endif
  check(Variant<Function>{"avx512 in plain C++", plain512});
}

void check_thin_rows();
void check_quantised_rows();
void check_packed_tiles();
void check_gated_rows();
void check_gate_values();
void check_attend_slots();
void check_attend_text();
void check_write_slots();
void check_recurrent_channels();
void check_narrow_tiles();
void check_widened_tiles();
void check_unit_product();
