// The arithmetic of the gated recurrence, compiled once for each instruction set from recurrent_channels.cc.
#pragma once

#include <cstdint>

// What a token finds behind it.
enum Place : int32_t {
  kPadding = 0,  // no token: the state stays as it is
  kGoesOn = 1,
  kFirst = 2,  // of its document, at position 0: no past, and its input goes in unscaled
  kAlone = 3,  // no past in this call, but one before it
};

struct GatedRecurrence {
  const float* x;          // (rows, tokens, blocks, size)
  const void* input_gate;  // (blocks, size, size), inputs first; bfloat16 if narrow, else float
  const void* decay_gate;
  const float* input_bias;  // (blocks, size)
  const float* decay_bias;
  const float* rate;      // (blocks, size): a fully open gate decays by e to the minus this
  const int32_t* places;  // (rows, tokens)
  const float* start;     // (rows, blocks, size)
  float* out;             // (rows, tokens, blocks, size)
  bool narrow;
  int64_t rows, tokens, blocks, size;
};

// Computes the channels [first, last) of one block, of all rows and tokens.
using RecurrentChannels = void(const GatedRecurrence& g, int64_t block, int64_t first, int64_t last);

RecurrentChannels recurrent_channels_portable, recurrent_channels_avx2, recurrent_channels_avx512;
