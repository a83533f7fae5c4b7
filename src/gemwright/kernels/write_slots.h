// Puts tokens into their slots of a cache.
#pragma once

#include <cstdint>
#include <cstring>

struct SlotsToWrite {
  char* cache;          // (rows, slots, bytes), of a token
  const char* tokens;   // (count, bytes)
  const int32_t* row;   // (count,)
  const int32_t* at;    // (count,) positions: the slot is the remainder; a token of negative position is left out
  int64_t rows, slots, count, bytes;
};

// False, and nothing more is written, at a token of a row that is not there.
inline bool write_slots(const SlotsToWrite& write) {
  for (int64_t token = 0; token < write.count; ++token) {
    if (write.at[token] < 0) continue;
    if (write.row[token] < 0 || write.row[token] >= write.rows) return false;
    char* slot = write.cache + (write.row[token] * write.slots + write.at[token] % write.slots) * write.bytes;
    std::memcpy(slot, write.tokens + token * write.bytes, size_t(write.bytes));
  }
  return true;
}
