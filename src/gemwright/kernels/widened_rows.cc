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
void widen_row(const WidenedRows& w, const Element* row, uint16_t* out, int64_t part_size, int64_t block) {
  for (int64_t group = 0; group < w.groups; ++group) {
    const int64_t part = group / kPartGroups, first = part * kPartGroups;
    const int64_t groups = w.groups - first < kPartGroups ? w.groups - first : kPartGroups;
    uint16_t* to = out + part * part_size + (block * groups + group - first) * kBlockRows * kGroup;
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
  const int64_t part_size = w.blocks() * kPartGroups * kBlockRows * kGroup;
  for (int64_t row = 0; row < kBlockRows; ++row) {
    const int64_t at = block * kBlockRows + row;
    uint16_t* out = w.out + row * kGroup;
    if (at >= w.n) return;  // what stands there meets no other row's sums
    if (w.narrow) widen_row(w, static_cast<const uint16_t*>(w.rows) + at * w.in, out, part_size, block);
    else widen_row(w, static_cast<const float*>(w.rows) + at * w.in, out, part_size, block);
  }
}
