// The XLA handler of the packed product: checks, choice of the instruction set, threads.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "levels.h"
#include "packed_tiles.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

PackedTiles* choose(int64_t bits, std::string_view name) {
  const Level level = choose_level(name);
#if defined(GEMWRIGHT_X86)
  return bits == 4 ? variant(level, packed_tiles4_portable, packed_tiles4_avx2, packed_tiles4_avx512)
                   : variant(level, packed_tiles8_portable, packed_tiles8_avx2, packed_tiles8_avx512);
#else
  if (level != Level::kPortable) return nullptr;
  return bits == 4 ? packed_tiles4_portable : packed_tiles8_portable;
#endif
}

// What unsigned codes count too much, a group: their offset times this.
std::vector<int32_t> sums_of_groups(const int8_t* codes, int64_t count) {
  std::vector<int32_t> sums(size_t(count), 0);
  for (int64_t group = 0; group < count; ++group)
    for (int i = 0; i < kGroup; ++i) sums[size_t(group)] += codes[group * kGroup + i];
  return sums;
}

ffi::Error packed_product(ffi::ThreadPool pool, ffi::BufferR2<ffi::S8> x, ffi::BufferR2<ffi::F32> x_scales,
                          ffi::BufferR3<ffi::U8> codes, ffi::BufferR3<ffi::F16> scales, std::string_view level,
                          ffi::ResultBufferR2<ffi::F32> out) {
  const int64_t n = x_scales.dimensions()[0], groups = x_scales.dimensions()[1], outs = out->dimensions()[1];
  const int64_t tiles = codes.dimensions()[0], bits = codes.dimensions()[2] / (kTileRows * kGroup / 8);
  const bool fits = x.dimensions()[0] == n && x.dimensions()[1] == groups * kGroup && codes.dimensions()[1] == groups &&
                    (bits == 4 || bits == 8) && scales.dimensions()[0] == tiles && scales.dimensions()[1] == groups &&
                    scales.dimensions()[2] == kTileRows && out->dimensions()[0] == n && outs <= tiles * kTileRows &&
                    outs > (tiles - 1) * kTileRows;
  if (!fits) return ffi::Error::InvalidArgument("packed_product: shapes do not fit");
  PackedTiles* compute = choose(bits, level);
  if (compute == nullptr)
    return ffi::Error::InvalidArgument("packed_product: this processor does not support " + std::string(level));
  auto sums = std::make_shared<const std::vector<int32_t>>(sums_of_groups(x.typed_data(), n * groups));
  const auto* scale_bits = reinterpret_cast<const uint16_t*>(scales.untyped_data());
  const PackedProduct product{x.typed_data(), x_scales.typed_data(), sums->data(),      codes.typed_data(),
                              scale_bits,     out->typed_data(),     n,  groups, outs};
  // About 128 KiB of codes for a thread at once.
  const int64_t together = std::max<int64_t>(1, (128 << 10) / std::max<int64_t>(1, groups * codes.dimensions()[2]));
  in_parallel(pool, (tiles + together - 1) / together, [=](int64_t chunk) {
    compute(product, chunk * together, std::min(tiles, (chunk + 1) * together));
    (void)sums;
  });
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_packed_product(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_packed_product, packed_product,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR2<ffi::S8>>()
                                  .Arg<ffi::BufferR2<ffi::F32>>()
                                  .Arg<ffi::BufferR3<ffi::U8>>()
                                  .Arg<ffi::BufferR3<ffi::F16>>()
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::BufferR2<ffi::F32>>());
