// Which of the compiled instruction sets this processor has. Each is asked for with all that its
// compiler flags allow, as CMakeLists.txt sets them.
#pragma once

#include <string_view>

enum class Level { kNone, kPortable, kAvx2, kAvx512 };

// The level that a name asks for; for "" the widest there is; kNone if this processor has not got it.
inline Level choose_level(std::string_view name) {
  const bool any = name.empty();
#if defined(GEMWRIGHT_X86)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vnni");
  if ((any || name == "avx512") && avx512) return Level::kAvx512;
  if ((any || name == "avx2") && avx2) return Level::kAvx2;
#endif
  return any || name == "portable" ? Level::kPortable : Level::kNone;
}

// The variant of a function for a level; nullptr for kNone.
template <class Function>
Function* variant(Level level, Function* portable, Function* avx2, Function* avx512) {
  switch (level) {
    case Level::kAvx512: return avx512;
    case Level::kAvx2: return avx2;
    case Level::kPortable: return portable;
    default: return nullptr;
  }
}

// The variant at a level, asked for by name, of what is compiled once for each: VARIANT_OF(thin_rows, "avx2").
#if defined(GEMWRIGHT_X86)
#define VARIANT_OF(name, level) variant(choose_level(level), name##_portable, name##_avx2, name##_avx512)
#else
#define VARIANT_OF(name, level) (choose_level(level) == Level::kPortable ? name##_portable : nullptr)
#endif
