// Puts one token a row into its slot of a cache.
#pragma once

#include <cstdint>
#include <cstring>

struct SlotsToWrite {
  char* cache;         // (rows, slots, bytes), of a token
  const char* tokens;  // (rows, bytes)
  const int32_t* at;   // (rows,) positions: the slot is the remainder; negative in a row that writes nothing
  int64_t rows, slots, bytes;
};

inline void write_slots(const SlotsToWrite& write) {
  for (int64_t row = 0; row < write.rows; ++row) {
    const int64_t position = write.at[row];
    if (position < 0) continue;
    char* slot = write.cache + (row * write.slots + position % write.slots) * write.bytes;
    std::memcpy(slot, write.tokens + row * write.bytes, size_t(write.bytes));
  }
}
