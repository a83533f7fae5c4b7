// Packed codes one at a time, as packed_tiles.h lays them out.
#pragma once

#include <cmath>
#include <cstdint>

inline double scale_value(uint16_t half) {
  const int exponent = half >> 10 & 31, fraction = half & 1023;
  const double size = exponent ? std::ldexp(1024 + fraction, exponent - 25) : std::ldexp(fraction, -24);
  return half >> 15 ? -size : size;
}

// Where a weight's code lies: the byte within its group, and whether in the high half of it.
struct Place {
  int64_t byte;
  bool high;
};

inline Place place_of(int bits, int row, int input) {
  if (bits == 8) return {64 * (input / 4) + 4 * row + input % 4, false};
  return {64 * (input % 16 / 4) + 4 * row + input % 4, input >= 16};
}

inline int code_of(int bits, uint8_t byte, bool high) {
  if (bits == 8) return int8_t(byte);
  return (high ? byte >> 4 : byte & 15) - 8;
}
