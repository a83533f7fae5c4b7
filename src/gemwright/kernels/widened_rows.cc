// Rows as bfloat16, in blocks for the matrix unit. See widened_tiles.h.
//
// CMake compiles this file under the name given by WIDEN_ROWS.
#include "vectors.h"
#include "widened_tiles.h"

namespace {

inline void narrow_group(const uint16_t* from, uint16_t* to) { std::memcpy(to, from, kGroup * sizeof *to); }

inline void narrow_group(const float* from, uint16_t* to) {
  for (int v = 0; v < kGroup / kLanes; ++v) store(to + v * kLanes, load(from + v * kLanes));
}

template <class Element>
void widen_row(const WidenedRows& w, int64_t row_of_all) {
  const int64_t block = row_of_all / kBlockRows, place = row_of_all % kBlockRows * kGroup;
  const Element* row = static_cast<const Element*>(w.rows) + row_of_all * w.in;
  for (int64_t group = 0; group < w.groups; ++group) {
    uint16_t* to = w.out + w.at(block, group) + place;
    const int64_t left = w.in - group * kGroup;
    if (left >= kGroup) {
      narrow_group(row + group * kGroup, to);
    } else {
      Element filled[kGroup] = {};
      std::memcpy(filled, row + group * kGroup, size_t(left) * sizeof(Element));
      narrow_group(filled, to);
    }
  }
}

}  // namespace

void WIDEN_ROWS(const WidenedRows& w, int64_t block) {
  // What stands where rows are missing meets no other row's sums.
  for (int64_t row = block * kBlockRows; row < (block + 1) * kBlockRows && row < w.n; ++row)
    w.narrow ? widen_row<uint16_t>(w, row) : widen_row<float>(w, row);
}
