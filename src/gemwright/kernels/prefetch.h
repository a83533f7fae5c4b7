// Asking for memory before it is needed.
#pragma once

#include <cstdint>

namespace {

// Asks for the line at `bytes` behind `from`. It may lie beyond the array, where a pointer may not point.
inline void prefetch(const void* from, int64_t bytes) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from) + uintptr_t(bytes)));
}

}  // namespace
