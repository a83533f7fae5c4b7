// Asking for memory before it is needed.
#pragma once

#include <cstdint>

// A function that does nothing but ask is inlined by force: GCC takes it for one without effect, and drops the call.
#if defined(__GNUC__)
#define ASKS [[gnu::always_inline]] inline
#else
#define ASKS inline
#endif

namespace {

// Asks for the line at `bytes` behind `from`. It may lie beyond the array, where a pointer may not point.
ASKS void prefetch(const void* from, int64_t bytes) {
  __builtin_prefetch(reinterpret_cast<const void*>(reinterpret_cast<uintptr_t>(from) + uintptr_t(bytes)));
}

}  // namespace
