// Which of the compiled instruction sets this processor has. Each is asked for with all that its
// compiler flags allow, as CMakeLists.txt sets them.
#pragma once

#include <string_view>

#if defined(GEMWRIGHT_AMX)
#include <cpuid.h>
#include <sys/syscall.h>
#include <unistd.h>
#endif

// kAmx is kAvx512 with a matrix unit beside it, which few kernels use.
enum class Level { kNone, kPortable, kAvx2, kAvx512, kAmx };

// Whether there is a matrix unit for bfloat16 that Linux lets this process use: its state is large, and kept for those
// who have asked.
inline bool may_use_amx() {
#if defined(GEMWRIGHT_AMX)
  static const bool may = [] {
    constexpr unsigned kTiles = 1u << 24, kBfloat16 = 1u << 22;
    constexpr long kAskForState = 0x1023, kTileData = 18;  // ARCH_REQ_XCOMP_PERM
    unsigned a, b, c, features;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &features)) return false;
    if (!(features & kTiles) || !(features & kBfloat16) || !__builtin_cpu_supports("avx512bf16")) return false;
    return syscall(SYS_arch_prctl, kAskForState, kTileData) == 0;
  }();
  return may;
#else
  return false;
#endif
}

// The level that a name asks for; for "" the widest there is; kNone if this processor has not got it.
inline Level choose_level(std::string_view name) {
  const bool any = name.empty();
#if defined(GEMWRIGHT_X86)
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512vnni");
  if ((any || name == "amx") && avx512 && may_use_amx()) return Level::kAmx;
  if ((any || name == "avx512") && avx512) return Level::kAvx512;
  if ((any || name == "avx2") && avx2) return Level::kAvx2;
#endif
  return any || name == "portable" ? Level::kPortable : Level::kNone;
}

// The variant of a function that does not use the matrix unit; nullptr for kNone.
template <class Function>
Function* variant(Level level, Function* portable, Function* avx2, Function* avx512) {
  switch (level) {
    case Level::kAmx:
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
