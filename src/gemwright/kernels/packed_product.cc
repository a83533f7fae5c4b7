// The XLA handler of packed products: rows are quantised once for all matrices that they meet.
#include <algorithm>
#include <atomic>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "gated_rows.h"
#include "levels.h"
#include "packed_tiles.h"
#include "parallel.h"
#include "quantised_rows.h"
#include "room.h"
#include "widened_tiles.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

// What an instruction set brings for packed products.
struct Arithmetic {
  QuantiseRows* quantise;
  PackedTiles *tiles4, *tiles8;
  GateRows* gate;
  int64_t together;  // rows
  int32_t (*start)(int64_t bits, int32_t sum);
  // For many rows, with a matrix unit; else nullptr.
  WidenRows* widen = nullptr;
  PackedTiles *wide4 = nullptr, *wide8 = nullptr;
};

constexpr Arithmetic kPortable{quantise_rows_portable, packed_tiles4_portable, packed_tiles8_portable,
                               gate_rows_portable, kTokensPortable, [](int64_t, int32_t) { return int32_t{0}; }};
#if defined(GEMWRIGHT_X86)
constexpr Arithmetic kAvx2{quantise_rows_avx2, packed_tiles4_avx2, packed_tiles8_avx2, gate_rows_avx2, kTokensAvx2,
                           packed_start_avx2};
constexpr Arithmetic kAvx512{quantise_rows_avx512, packed_tiles4_avx512, packed_tiles8_avx512, gate_rows_avx512,
                             kTokensAvx512, packed_start_avx512};
#else
constexpr Arithmetic kAvx2 = kPortable, kAvx512 = kPortable;
#endif
#if defined(GEMWRIGHT_AMX)
constexpr Arithmetic kAmx{quantise_rows_avx512, packed_tiles4_amx, packed_tiles8_amx, gate_rows_avx512,
                          kTokensAvx512, packed_start_avx512, widen_rows_amx, widened_tiles4_amx, widened_tiles8_amx};
#else
constexpr Arithmetic kAmx = kAvx512;
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
  const auto compute = [=, &by, &to](int64_t row, int64_t first, int64_t last) {
    by.quantise(task, row, first, last);
    const int64_t tokens = std::min(n - row, by.together), end = row * groups + last * tokens;
    for (int64_t i = row * groups + first * tokens; i < end; ++i) {
      if (any4) to.starts4[size_t(i)] = by.start(4, task.sums[i]);
      if (any8) to.starts8[size_t(i)] = by.start(8, task.sums[i]);
    }
  };
  const int64_t blocks = (n + by.together - 1) / by.together;
  const int64_t parts = n * in < (1 << 15) ? 1 : std::min<int64_t>(groups, 4);  // waking a thread costs more
  const auto part = [=](int64_t number) {
    const int64_t at = number % parts;
    compute(number / parts * by.together, at * groups / parts, (at + 1) * groups / parts);
  };
  if (parts > 1) return in_parallel(pool, blocks * parts, part);
  for (int64_t number = 0; number < blocks; ++number) part(number);
}

// Rows for the matrix unit, in memory that a thread keeps for its next call.
const uint16_t* widen(ffi::ThreadPool& pool, const Arithmetic& by, const ffi::AnyBuffer& rows) {
  thread_local std::shared_ptr<uint16_t[]> kept;
  thread_local int64_t kept_size = 0;
  const int64_t n = rows.dimensions()[0], in = rows.dimensions()[1], groups = (in + kGroup - 1) / kGroup;
  WidenedRows task{rows.untyped_data(), rows.element_type() == ffi::BF16, nullptr, n, in, groups};
  if (kept_size < task.size()) {
    kept = room_of<uint16_t>(task.size());
    kept_size = task.size();
  }
  task.out = kept.get();
  in_parallel(pool, task.blocks(), [=, &by](int64_t block) { by.widen(task, block); });
  return task.out;
}

// A product with the function that computes it.
struct Work {
  PackedProduct product;
  PackedTiles* compute;
  int64_t bits;

  int64_t tiles() const { return (product.outs + kTileRows - 1) / kTileRows; }
  ReadNext at(int64_t tile) const {
    return {product.codes + tile * tile_bytes(), product.scales + tile * product.groups * kTileRows};
  }
  int64_t tile_bytes() const { return std::max<int64_t>(1, product.groups) * kTileRows * kGroup * bits / 8; }
};

// Some tiles of one of the products, for a thread to take at once.
struct Share {
  const Work* work;
  int64_t first, last;
};

// Cuts products into shares, large ones at first, since memory is read faster the longer it goes on; small ones in the
// end, so that no thread waits long for another. Few tokens wait for memory; many tokens' sums would not fit the cache
// beside a large share.
std::vector<Share> cut(std::span<const Work> works, int64_t threads, bool wide) {
  std::vector<Share> shares;
  int64_t left = 0;
  for (const Work& work : works) left += work.tiles() * work.tile_bytes();
  const bool few = works[0].product.n <= 8;
  int64_t least = few ? std::clamp<int64_t>(left / (16 * threads), 32 << 10, 128 << 10) : 32 << 10;
  int64_t most = few ? 2 << 20 : 64 << 10, parts = (few ? 2 : 8) * threads;
  if (wide) {
    least = 4 * works[0].tile_bytes();
    most = kPanelTiles * works[0].tile_bytes();
    parts = 3 * threads;
  }
  for (const Work& work : works) {
    for (int64_t tile = 0; tile < work.tiles();) {
      const int64_t bytes = std::clamp(left / parts, least, most);
      const int64_t last = std::min(work.tiles(), tile + std::max<int64_t>(2, bytes / work.tile_bytes() / 2 * 2));
      shares.push_back({&work, tile, last});
      left -= (last - tile) * work.tile_bytes();
      tile = last;
    }
  }
  return shares;
}

// The tiles of a share alone, (n, tiles * 16), in float32.
void compute_apart(const Work& work, int64_t first, int64_t last, float* out, const ReadNext& next) {
  PackedProduct part = work.product;
  const ReadNext begin = work.at(first);
  part.codes = begin.codes;
  part.scales = begin.scales;
  part.out = out;
  part.narrow = false;
  part.outs = (last - first) * kTileRows;
  work.compute(part, 0, last - first, next);
}

// gelu(gate) * up for some tiles: the sums stay in this thread's cache.
void compute_gated(const Arithmetic& by, const Work& gate, const Work& up, int64_t first, int64_t last,
                   const ReadNext& next) {
  const PackedProduct& p = gate.product;
  const int64_t width = (last - first) * kTileRows, column = first * kTileRows;
  thread_local std::vector<float> sums;
  if (sums.size() < size_t(2 * p.n * width)) sums.resize(size_t(2 * p.n * width));
  float *gates = sums.data(), *ups = gates + p.n * width;
  compute_apart(gate, first, last, gates, up.at(first));
  compute_apart(up, first, last, ups, next);
  void* out = static_cast<char*>(p.out) + column * int64_t(p.narrow ? sizeof(uint16_t) : sizeof(float));
  by.gate({gates, ups, out, p.narrow, p.n, width, p.outs, std::min(width, p.outs - column)});
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

// The products of a call; empty if shapes or types do not fit. Gated ones are two with one result.
std::vector<Work> take_all(const Arithmetic& by, const ffi::AnyBuffer& rows, ffi::RemainingArgs& matrices,
                           ffi::RemainingRets& outs, bool gated, bool wide) {
  std::vector<Work> works;
  if (gated ? matrices.size() != 4 || outs.size() != 1 : matrices.size() != 2 * outs.size()) return {};
  for (size_t i = 0; i < matrices.size() / 2; ++i) {
    const auto codes = matrices.get<ffi::AnyBuffer>(2 * i), scales = matrices.get<ffi::AnyBuffer>(2 * i + 1);
    auto out = outs.get<ffi::AnyBuffer>(gated ? 0 : i);
    Work work{};
    if (!codes || !scales || !out || !take(rows, *codes, *scales, **out, work.product)) return {};
    work.bits = bits_of(*codes);
    if (wide) work.compute = work.bits == 4 ? by.wide4 : by.wide8;
    else work.compute = work.bits == 4 ? by.tiles4 : by.tiles8;
    works.push_back(work);
  }
  return works;
}

void compute_all(ffi::ThreadPool& pool, const Arithmetic& by, const std::vector<Work>& works, bool gated, bool wide) {
  const std::vector<Share> shares = cut(std::span(works).first(gated ? 1 : works.size()), pool.num_threads(), wide);
  std::atomic<size_t> taken{0};
  in_parallel(pool, std::min(pool.num_threads(), int64_t(shares.size())), [&](int64_t) {
    // A share is taken before the one ahead of it is computed, so that memory is read without a gap.
    for (size_t number = taken++, after; number < shares.size(); number = after) {
      after = taken++;
      const Share& share = shares[number];
      const ReadNext next = after < shares.size() ? shares[after].work->at(shares[after].first) : ReadNext{};
      if (gated) compute_gated(by, works[0], works[1], share.first, share.last, next);
      else share.work->compute(share.work->product, share.first, share.last, next);
    }
  });
}

// Fills in the rows of all works, as they are multiplied.
void take_rows(ffi::ThreadPool& pool, const Arithmetic& by, const ffi::AnyBuffer& rows, bool wide,
               std::vector<Work>& works) {
  if (wide) {
    const uint16_t* widened = widen(pool, by, rows);
    for (Work& work : works) work.product.x_wide = widened;
    return;
  }
  std::vector<int64_t> bits;
  for (const Work& work : works) bits.push_back(work.bits);
  thread_local Codes x;
  quantise(pool, by, rows, bits, x);
  for (Work& work : works) {
    work.product.x_codes = x.codes.data();
    work.product.x_scales = x.scales.data();
    work.product.x_starts = work.bits == 4 ? x.starts4.data() : x.starts8.data();
  }
}

ffi::Error packed_products(ffi::ThreadPool pool, ffi::AnyBuffer rows, ffi::RemainingArgs matrices,
                           ffi::RemainingRets outs, std::string_view level_name, bool gated, bool many) {
  if (rows.dimensions().size() != 2 || (rows.element_type() != ffi::BF16 && rows.element_type() != ffi::F32))
    return ffi::Error::InvalidArgument("packed_products: rows are float32 or bfloat16");
  const Level level = choose_level(level_name);
  const Arithmetic* by = level == Level::kAmx ? &kAmx : variant(level, &kPortable, &kAvx2, &kAvx512);
  if (by == nullptr)
    return ffi::Error::InvalidArgument("packed_products: this processor does not support " + std::string(level_name));
  const bool wide = many && by->widen != nullptr && rows.dimensions()[1] > 0;
  std::vector<Work> works = take_all(*by, rows, matrices, outs, gated, wide);
  if (works.empty()) return ffi::Error::InvalidArgument("packed_products: shapes or types do not fit");
  take_rows(pool, *by, rows, wide, works);
  compute_all(pool, *by, works, gated, wide);
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
                                  .Attr<std::string_view>("level")
                                  .Attr<bool>("gated")
                                  .Attr<bool>("many"));
