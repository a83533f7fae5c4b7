// The XLA handler of packed products: rows are quantised once for all matrices that they meet.
#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "levels.h"
#include "packed_tiles.h"
#include "parallel.h"
#include "quantised_rows.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// What an instruction set brings for packed products.
struct Arithmetic {
  QuantiseRows* quantise;
  PackedTiles *tiles4, *tiles8;
  int64_t together;  // rows
  int32_t (*start)(int64_t bits, int32_t sum);
};

constexpr Arithmetic kPortable{quantise_rows_portable, packed_tiles4_portable, packed_tiles8_portable, kTokensPortable,
                               [](int64_t, int32_t) { return int32_t{0}; }};
#if defined(GEMWRIGHT_X86)
constexpr Arithmetic kAvx2{quantise_rows_avx2, packed_tiles4_avx2, packed_tiles8_avx2, kTokensAvx2, packed_start_avx2};
constexpr Arithmetic kAvx512{quantise_rows_avx512, packed_tiles4_avx512, packed_tiles8_avx512, kTokensAvx512,
                             packed_start_avx512};
#else
constexpr Arithmetic kAvx2 = kPortable, kAvx512 = kPortable;
#endif

// Rows as codes, in memory that a thread keeps for its next call.
struct Codes {
  std::vector<int8_t> codes;
  std::vector<float> scales;
  std::vector<int32_t> sums, starts4, starts8;

  void hold(size_t groups) {
    if (scales.size() >= groups) return;
    codes.resize(groups * kGroup);
    scales.resize(groups);
    for (auto* each : {&sums, &starts4, &starts8}) each->resize(groups);
  }
};

void quantise(ffi::ThreadPool& pool, const Arithmetic& by, const ffi::AnyBuffer& rows, const std::vector<int64_t>& bits,
              Codes& to) {
  const int64_t n = rows.dimensions()[0], in = rows.dimensions()[1], groups = (in + kGroup - 1) / kGroup;
  to.hold(size_t(n * groups));
  const QuantisedRows task{rows.untyped_data(), rows.element_type() == ffi::BF16, to.codes.data(), to.scales.data(),
                           to.sums.data(), n, in, groups, by.together};
  const bool any4 = std::count(bits.begin(), bits.end(), 4), any8 = std::count(bits.begin(), bits.end(), 8);
  const auto compute = [=, &by, &to](int64_t first, int64_t last) {
    by.quantise(task, first, last);
    const int64_t end = std::min(n, last * by.together) * groups;
    for (int64_t i = first * by.together * groups; i < end; ++i) {
      if (any4) to.starts4[size_t(i)] = by.start(4, task.sums[i]);
      if (any8) to.starts8[size_t(i)] = by.start(8, task.sums[i]);
    }
  };
  const int64_t blocks = (n + by.together - 1) / by.together;
  if (n * in < (1 << 15)) return compute(0, blocks);  // waking a thread costs more
  in_parallel(pool, blocks, [=](int64_t number) { compute(number, number + 1); });
}

// Some tiles of one of the products, for a thread to take at once.
struct Share {
  const PackedProduct* product;
  PackedTiles* compute;
  int64_t first, last;
};

// Cuts a product into shares of about 128 KiB of codes.
void cut(const PackedProduct& product, PackedTiles* compute, int64_t bits, std::vector<Share>& shares) {
  const int64_t tile_bytes = std::max<int64_t>(1, product.groups * kTileRows * kGroup * bits / 8);
  const int64_t together = std::max<int64_t>(1, (128 << 10) / tile_bytes);
  const int64_t tiles = (product.outs + kTileRows - 1) / kTileRows;
  for (int64_t tile = 0; tile < tiles; tile += together)
    shares.push_back({&product, compute, tile, std::min(tiles, tile + together)});
}

// One of the products as XLA hands it over; its rows are filled in later. False if shapes or types do not fit.
bool take(const ffi::AnyBuffer& rows, const ffi::AnyBuffer& codes, const ffi::AnyBuffer& scales, ffi::AnyBuffer& out,
          PackedProduct& product) {
  const auto x = rows.dimensions(), c = codes.dimensions(), s = scales.dimensions(), o = out.dimensions();
  if (codes.element_type() != ffi::U8 || scales.element_type() != ffi::F16 ||
      out.element_type() != rows.element_type() || c.size() != 3 || s.size() != 3 || o.size() != 2)
    return false;
  product.codes = static_cast<const uint8_t*>(codes.untyped_data());
  product.scales = static_cast<const uint16_t*>(scales.untyped_data());
  product.out = out.untyped_data();
  product.narrow = rows.element_type() == ffi::BF16;
  product.n = x[0];
  product.groups = c[1];
  product.outs = o[1];
  return c[1] == (x[1] + kGroup - 1) / kGroup && (c[2] == 256 || c[2] == 512) && s[0] == c[0] && s[1] == c[1] &&
         s[2] == kTileRows && o[0] == x[0] && c[0] == (o[1] + kTileRows - 1) / kTileRows;
}

int64_t bits_of(const ffi::AnyBuffer& codes) { return codes.dimensions()[2] / (kTileRows * kGroup / 8); }

ffi::Error packed_products(ffi::ThreadPool pool, ffi::AnyBuffer rows, ffi::RemainingArgs matrices,
                           ffi::RemainingRets outs, std::string_view level_name) {
  if (rows.dimensions().size() != 2 || (rows.element_type() != ffi::BF16 && rows.element_type() != ffi::F32) ||
      matrices.size() != 2 * outs.size())
    return ffi::Error::InvalidArgument("packed_products: rows are float32 or bfloat16; a result a matrix");
  const Arithmetic* by = variant(choose_level(level_name), &kPortable, &kAvx2, &kAvx512);
  if (by == nullptr)
    return ffi::Error::InvalidArgument("packed_products: this processor does not support " + std::string(level_name));
  std::vector<PackedProduct> products(outs.size());
  std::vector<int64_t> bits;
  for (size_t i = 0; i < outs.size(); ++i) {
    const auto codes = matrices.get<ffi::AnyBuffer>(2 * i), scales = matrices.get<ffi::AnyBuffer>(2 * i + 1);
    auto out = outs.get<ffi::AnyBuffer>(i);
    if (!codes || !scales || !out || !take(rows, *codes, *scales, **out, products[i]))
      return ffi::Error::InvalidArgument("packed_products: shapes or types do not fit");
    bits.push_back(bits_of(*codes));
  }
  thread_local Codes x;
  quantise(pool, *by, rows, bits, x);
  std::vector<Share> shares;
  for (size_t i = 0; i < products.size(); ++i) {
    products[i].x_codes = x.codes.data();
    products[i].x_scales = x.scales.data();
    products[i].x_starts = bits[i] == 4 ? x.starts4.data() : x.starts8.data();
    cut(products[i], bits[i] == 4 ? by->tiles4 : by->tiles8, bits[i], shares);
  }
  in_parallel(pool, int64_t(shares.size()), [&](int64_t number) {
    const Share& share = shares[size_t(number)];
    share.compute(*share.product, share.first, share.last);
  });
  return ffi::Error::Success();
}

}  // namespace

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_packed_product(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_packed_product, packed_products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::AnyBuffer>()
                                  .RemainingArgs()
                                  .RemainingRets()
                                  .Attr<std::string_view>("level"));
