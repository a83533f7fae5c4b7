// The matrix unit at its limit: a loop that does nothing but multiply. Compiled from matrix_loop.cc.
#pragma once

#include <cstdint>

constexpr int64_t kSumsOfLoop = 4;  // chains that do not wait for each other

// out (4, 16, 16) = each `rounds` times a (16, 32) times b, which is (16, 16) pairs of bfloat16 below each other.
using MatrixLoop = void(const uint16_t* a, const uint16_t* b, int64_t rounds, float* out);

MatrixLoop matrix_loop_amx;
