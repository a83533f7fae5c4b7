// out[r, o] = sum_i rows[r, i] * matrix[o, i] for a range of o.
//
// CMake compiles this file once for each instruction set, under the name given by THIN_ROWS.
#include "thin_rows.h"

#include "prefetch.h"
#include "vectors.h"

namespace {

// kTogether activation rows and kBlock weight rows are multiplied at once: a loaded vector is used
// several times, and all sums stay in registers (32 of them with AVX-512, else 16).
constexpr int kTogether = kLanes == 16 ? 4 : 2, kBlock = 4;

template <int kOuts, int kRows>
void tile(const ThinProduct& product, int64_t row, int64_t out) {
  const int64_t in = product.in;
  const float* rows = product.rows + row * in;
  const uint16_t* matrix = product.matrix + out * in;
  Floats sums[kOuts][kRows] = {};
  int64_t i = 0;
  for (; i + kLanes <= in; i += kLanes) {
    Floats x[kRows];
    for (int r = 0; r < kRows; ++r) x[r] = load(rows + r * in + i);
    for (int o = 0; o < kOuts; ++o) {
      // The next block's rows: the processor's own prefetching stops at the end of each page.
      prefetch(matrix + o * in + i, int64_t(sizeof *matrix) * kOuts * in);
      const Floats weights = widen(matrix + o * in + i);
      for (int r = 0; r < kRows; ++r) sums[o][r] += weights * x[r];
    }
  }
  for (int o = 0; o < kOuts; ++o) {
    for (int r = 0; r < kRows; ++r) {
      float sum = total(sums[o][r]);
      for (int64_t j = i; j < in; ++j) sum += widen_one(matrix[o * in + j]) * rows[r * in + j];
      product.out[(row + r) * product.outs + out + o] = sum;
    }
  }
}

// The first tile brings the block of weights into the cache, where the next ones find it: memory
// is read once for all rows.
template <int kOuts>
void all_rows(const ThinProduct& product, int64_t out) {
  int64_t row = 0;
  for (; row + kTogether <= product.n; row += kTogether) tile<kOuts, kTogether>(product, row, out);
  for (; row + 2 <= product.n; row += 2) tile<kOuts, 2>(product, row, out);
  if (row < product.n) tile<kOuts, 1>(product, row, out);
}

}  // namespace

void THIN_ROWS(const ThinProduct& product, int64_t first, int64_t last) {
  int64_t out = first;
  for (; out + kBlock <= last; out += kBlock) all_rows<kBlock>(product, out);
  for (; out < last; ++out) all_rows<1>(product, out);
}
