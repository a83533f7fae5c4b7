// The XLA handler of products of bfloat16 matrices: checks, words of pairs, rows of the result for threads.
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string_view>
#include <utility>

#include "levels.h"
#include "narrow_tiles.h"
#include "parallel.h"
#include "room.h"
#include "unit_product.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

bool supported(std::string_view level) {
#if defined(GEMWRIGHT_BFLOAT16)
  const Level found = choose_level(level);
  return (found == Level::kAvx512 || found == Level::kAmx) && __builtin_cpu_supports("avx512bf16");
#else
  (void)level;
  return false;
#endif
}

#if defined(GEMWRIGHT_BFLOAT16)

constexpr int64_t kManyStripes = 16;  // enough to divide the work by

using Words = std::shared_ptr<uint32_t[]>;

// All columns of a matrix of `depth` by `width`, `room` at a time: (width / room rounded up, pairs, room) words.
Words paired(ffi::ThreadPool& pool, PairRows* pair, const uint16_t* matrix, int64_t depth, int64_t width, int64_t room) {
  const int64_t stripes = (width + room - 1) / room, stripe_size = (depth + 1) / 2 * room;
  Words words = room_of<uint32_t>(stripes * stripe_size);
  in_parallel(pool, stripes, [=](int64_t stripe) {
    pair(matrix, depth, width, stripe * room, room, words.get() + stripe * stripe_size);
  });
  return words;
}

enum class Form : int64_t { kToOuts, kToRows, kToMatrix };  // kernels/narrow_product.py has the same

struct Sizes {
  int64_t rows, depth, columns;
};

// The rows of C that a task computes read A from `at`.
NarrowProduct of_task(const NarrowProduct& all, int64_t task, const uint32_t* a_stripes) {
  NarrowProduct one = all;
  if (a_stripes == nullptr) return one;
  // Stripes begin anew in every task.
  one.a = reinterpret_cast<const char*>(a_stripes + task * all.pairs * kRowsInTask) - task * kRowsInTask * all.a_row;
  return one;
}

// By some rows for all columns, which are put in order before.
void by_rows(ffi::ThreadPool& pool, NarrowProduct all, Words a, PairRows* pair, Sizes s, const uint16_t* right) {
  const Words b = paired(pool, pair, right, s.depth, s.columns, kColumnsTogether);
  all.b = b.get();
  in_parallel(pool, (s.rows + kRowsInTask - 1) / kRowsInTask, [=](int64_t task) {
    const int64_t first = task * kRowsInTask;
    narrow_tiles_avx512(of_task(all, task, a.get()), first, std::min(s.rows, first + kRowsInTask));
  });
}

// By some columns for all rows: a large matrix is not copied whole.
void by_columns(ffi::ThreadPool& pool, NarrowProduct all, Words a, PairRows* pair, Sizes s, const uint16_t* right) {
  in_parallel(pool, (s.columns + kColumnsTogether - 1) / kColumnsTogether, [=](int64_t stripe) {
    const int64_t column = stripe * kColumnsTogether;
    const Words b = room_of<uint32_t>(all.pairs * kColumnsTogether);
    pair(right, s.depth, s.columns, column, kColumnsTogether, b.get());
    NarrowProduct some = all;
    some.b = b.get();
    some.c += column;
    some.columns = std::min(kColumnsTogether, s.columns - column);
    for (int64_t first = 0, task = 0; first < s.rows; first += kRowsInTask, ++task)
      narrow_tiles_avx512(of_task(some, task, a.get()), first, std::min(s.rows, first + kRowsInTask));
  });
}

#if defined(GEMWRIGHT_AMX)

using Halves = std::shared_ptr<uint16_t[]>;

constexpr int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

// Rows of A as the matrix unit reads them; of A's transposed where they become a matrix.
Halves unit_rows_of(ffi::ThreadPool& pool, bool turned, Sizes s, const uint16_t* left) {
  WidenedRows task{left, true, nullptr, s.rows, s.depth, ceil_div(s.depth, kGroup)};
  const Halves out = room_of<uint16_t>(task.size());
  task.out = out.get();
  in_parallel(pool, task.blocks(), [=](int64_t block) {
    if (!turned) return widen_rows_amx(task, block);
    const Words room = room_of<uint32_t>(ceil_div(s.depth, 2) * kUnitSide);
    turned_rows_amx(task, block, room.get());
  });
  return out;
}

// Some columns of B, with zeros where a step of inputs is not whole.
void order_stripe(PairRows* pair, Sizes s, const uint16_t* right, int64_t stripe, uint16_t* to) {
  auto* words = reinterpret_cast<uint32_t*>(to);
  pair(right, s.depth, s.columns, stripe * kUnitSide, kUnitSide, words);
  std::fill(words + ceil_div(s.depth, 2) * kUnitSide, words + ceil_div(s.depth, kGroup) * kGroup / 2 * kUnitSide, 0u);
}

// By some columns for all rows: a large matrix is not copied whole.
void unit_by_columns(ffi::ThreadPool& pool, UnitProduct all, PairRows* pair, Sizes s, const uint16_t* right) {
  const int64_t stripes = ceil_div(s.columns, kUnitSide), stripe_size = all.steps * kGroup * kUnitSide;
  in_parallel(pool, ceil_div(stripes, kUnitStripes), [=](int64_t task) {
    const int64_t first = task * kUnitStripes, last = std::min(stripes, first + kUnitStripes);
    const Halves b = room_of<uint16_t>((last - first) * stripe_size);
    for (int64_t i = first; i < last; ++i) order_stripe(pair, s, right, i, b.get() + (i - first) * stripe_size);
    UnitProduct some = all;
    some.b = b.get();
    unit_stripes_amx(some, first, last);
  });
}

// By some rows for all columns, which are put in order before.
void unit_by_rows(ffi::ThreadPool& pool, UnitProduct all, PairRows* pair, Sizes s, const uint16_t* right) {
  const int64_t stripes = ceil_div(s.columns, kUnitSide), stripe_size = all.steps * kGroup * kUnitSide;
  const Halves b = room_of<uint16_t>(stripes * stripe_size);
  in_parallel(pool, stripes, [=](int64_t i) { order_stripe(pair, s, right, i, b.get() + i * stripe_size); });
  all.b = b.get();
  in_parallel(pool, ceil_div(all.blocks(), kUnitBlocks), [=](int64_t task) { unit_rows_amx(all, task * kUnitBlocks); });
}

// `multiply` by the matrix unit.
void multiply_by_unit(ffi::ThreadPool& pool, Form form, Sizes s, const uint16_t* left, const uint16_t* right,
                      uint16_t* out) {
  const Halves a = unit_rows_of(pool, form == Form::kToMatrix, s, left);
  PairRows* pair = form == Form::kToOuts ? pair_columns_avx512 : pair_rows_avx512;
  const UnitProduct all{a.get(), nullptr, out, s.rows, s.columns, ceil_div(s.depth, kGroup)};
  const bool many_columns = s.columns >= kManyStripes * kColumnsTogether;
  (many_columns ? unit_by_columns : unit_by_rows)(pool, all, pair, s, right);
}

#endif

void multiply(ffi::ThreadPool& pool, Form form, Sizes s, const uint16_t* left, const uint16_t* right, uint16_t* out) {
  const bool to_matrix = form == Form::kToMatrix;
  NarrowProduct all{reinterpret_cast<const char*>(left), 2 * s.depth, 4, nullptr, out, s.columns, s.columns,
                    (s.depth + 1) / 2};
  Words a;
  // Pairs of A beside each other are words as they are, if all are whole.
  if (to_matrix || s.depth % 2 != 0) {
    a = paired(pool, to_matrix ? pair_rows_avx512 : pair_columns_avx512, left, s.depth, s.rows, kRowsInTask);
    all.a_row = 4;
    all.a_pair = 4 * kRowsInTask;
  }
  const bool many_columns = s.columns >= kManyStripes * kColumnsTogether;
  PairRows* pair = form == Form::kToOuts ? pair_columns_avx512 : pair_rows_avx512;
  (many_columns ? by_columns : by_rows)(pool, all, a, pair, s, right);
}

#endif

ffi::Error narrow_product(ffi::ThreadPool pool, ffi::BufferR2<ffi::BF16> left, ffi::BufferR2<ffi::BF16> right,
                          int64_t form, std::string_view level, ffi::ResultBufferR2<ffi::BF16> out) {
  const auto l = left.dimensions(), r = right.dimensions(), o = out->dimensions();
  // (n, i) (o, i) -> (n, o), (n, o) (o, i) -> (n, i) or (n, o) (n, i) -> (o, i).
  const bool to_outs = form == 0, to_matrix = form == 2;
  const auto [rows, depth] = to_matrix ? std::pair(l[1], l[0]) : std::pair(l[0], l[1]);
  const auto [right_depth, columns] = to_outs ? std::pair(r[1], r[0]) : std::pair(r[0], r[1]);
  if (form < 0 || form > 2 || depth != right_depth || o[0] != rows || o[1] != columns)
    return ffi::Error::InvalidArgument("narrow_product: shapes do not fit");
  if (!supported(level)) return ffi::Error::InvalidArgument("narrow_product: this processor multiplies no bfloat16");
#if defined(GEMWRIGHT_BFLOAT16)
  const auto halves = [](const auto& buffer) { return reinterpret_cast<const uint16_t*>(buffer.typed_data()); };
  auto* product = multiply;
#if defined(GEMWRIGHT_AMX)
  if (choose_level(level) == Level::kAmx) product = multiply_by_unit;
#endif
  product(pool, Form{form}, {rows, depth, columns}, halves(left), halves(right),
          reinterpret_cast<uint16_t*>(out->typed_data()));
#endif
  return ffi::Error::Success();
}

}  // namespace

// Whether the kernel runs on this processor at a level, by its name.
extern "C" __attribute__((visibility("default"))) int gemwright_multiplies_bfloat16(const char* level) {
  return supported(level);
}

extern "C" __attribute__((visibility("default"))) XLA_FFI_Error* gemwright_narrow_product(XLA_FFI_CallFrame* frame);

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_narrow_product, narrow_product,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR2<ffi::BF16>>()
                                  .Arg<ffi::BufferR2<ffi::BF16>>()
                                  .Attr<int64_t>("form")
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::BufferR2<ffi::BF16>>());
