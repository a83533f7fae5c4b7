// The packed product for a range of tiles with many rows. See widened_tiles.h.
//
// CMake compiles this file once for each width of codes, under the name given by WIDENED_TILES and with BITS. Nothing
// of the standard library but memcpy may be used here, as in packed_tiles.cc.
#include "widened_tiles.h"

#include "matrix_unit.h"
#include "vectors.h"

namespace {

constexpr int64_t kPanelPairs = kPanelTiles / 2, kPanelBlocks = 8;  // of 32 rows
constexpr int64_t kPairs = 2 * kSide;                               // from a row of pairs of inputs to the next
constexpr int64_t kCodes = kTileRows * kGroup * BITS / 8;  // bytes of a group of a tile

alignas(64) thread_local uint16_t weights[2][kPartGroups * kStepSize];
alignas(64) thread_local float sums[kPanelPairs * kPanelBlocks * kSumsSize];

alignas(64) constexpr uint16_t kInTurn[32] = {0, 16, 1, 17, 2,  18, 3,  19, 4,  20, 5,  21, 6,  22, 7,  23,
                                              8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31};

inline Words words_at(const uint8_t* codes) {
  Words words;
  std::memcpy(&words, codes, sizeof words);
  return words;
}

// Writes pairs of bfloat16, to the nearest.
inline void keep_pairs(uint16_t* to, Floats lower, Floats upper) {
  const __m512i both = (__m512i)_mm512_cvtne2ps_pbh((__m512)upper, (__m512)lower);  // one after the other
  _mm512_storeu_si512(to, _mm512_maskz_permutexvar_epi16(0xffffffff, _mm512_load_si512(kInTurn), both));
}

#if BITS == 4

// The code in bits `kAt` to `kAt + 3` of each word, times the scale: bits 19 to 22 of a float from 16 to 32 count
// ones, and `offset` takes off these 16 and the code's own 8.
template <int kAt>
inline Floats decoded(Words words, Floats scale, Floats offset) {
  const Words moved = kAt < 19 ? words << (19 - kAt) : words >> (kAt - 19);
  return (Floats)((moved & (15u << 19)) | 0x41800000u) * scale + offset;
}

// A quarter of a group of a tile.
inline void widen(const uint8_t* codes, int64_t quarter, Floats scale, uint16_t* to) {
  const Words words = words_at(codes + quarter * 64);
  const Floats offset = scale * -24.0f;
  to += quarter * 2 * kPairs;
  const auto keep = [&](int pair, Floats lower, Floats upper) { keep_pairs(to + kPairs * pair, lower, upper); };
  keep(0, decoded<0>(words, scale, offset), decoded<8>(words, scale, offset));
  keep(1, decoded<16>(words, scale, offset), decoded<24>(words, scale, offset));
  keep(8, decoded<4>(words, scale, offset), decoded<12>(words, scale, offset));
  keep(9, decoded<20>(words, scale, offset), decoded<28>(words, scale, offset));
}

#else

template <int kAt>
inline Floats decoded(Words words, Floats scale) {
  typedef int32_t Integers __attribute__((vector_size(4 * kLanes)));
  return __builtin_convertvector((Integers)(words << (24 - kAt)) >> 24, Floats) * scale;
}

inline void widen(const uint8_t* codes, int64_t quarter, Floats scale, uint16_t* to) {
  for (int64_t v = 2 * quarter; v < 2 * quarter + 2; ++v) {
    const Words words = words_at(codes + v * 64);
    keep_pairs(to + v * 2 * kPairs, decoded<0>(words, scale), decoded<8>(words, scale));
    keep_pairs(to + (v * 2 + 1) * kPairs, decoded<16>(words, scale), decoded<24>(words, scale));
  }
}

#endif

struct Range {
  int64_t first, last;

  int64_t size() const { return last - first; }
};

inline Range part_of(int64_t all, int64_t first, int64_t most) {
  return {first, first + most < all ? first + most : all};
}

// Widens some groups of two tiles beside each other, a quarter of a group at a time.
struct Widening {
  const PackedProduct& p;
  int64_t tile, last_tile;  // the second may be missing: its columns are of no matter
  Range groups;
  uint16_t* to;
  int64_t done = 0;

  int64_t all() const { return groups.size() * 8; }

  void some(int64_t count) {
    for (; count > 0 && done < all(); --count, ++done) {
      const int64_t group = done / 8, half = done / 4 % 2;
      const int64_t at = (tile + half < last_tile ? tile + half : tile) * p.groups + groups.first + group;
      const auto* halves = reinterpret_cast<const __m256i*>(p.scales + at * kTileRows);
      const auto scale = (Floats)_mm512_maskz_cvtph_ps(0xffff, _mm256_loadu_si256(halves));
      widen(p.codes + at * kCodes, done % 4, scale, to + group * kStepSize + half * kSide);
    }
  }
};

// Puts the sums of a block into place, a row at a time, as far as the result has these rows and columns.
struct Keeping {
  const PackedProduct& p;
  int64_t column;
  const float* sums = nullptr;
  int64_t row = 0, left = 0;

  void begin(int64_t block, const float* finished) {
    some(left);
    sums = finished;
    row = block * kSide;
    left = p.n - row < kSide ? p.n - row : kSide;
  }

  void some(int64_t count) {
    for (; count > 0 && left > 0; --count, --left, ++row) {
      const int64_t at = row * p.outs + column, columns = p.outs - column;
      if (p.narrow) keep_row(sums, row % kSide, static_cast<uint16_t*>(p.out) + at, columns);
      else keep_row(sums, row % kSide, static_cast<float*>(p.out) + at, columns);
    }
  }
};

// Tiles that meet some blocks of rows: their sums stay in the second cache. Pairs of tiles within parts of the inputs
// are counted on.
struct Panel {
  const PackedProduct& p;
  Range tiles, blocks;
  int64_t all_blocks;
  int64_t pairs = (tiles.size() + 1) / 2, parts = (p.groups + kPartGroups - 1) / kPartGroups;

  void compute() const {
    Widening first = widening(0);
    first.some(first.all());
    for (int64_t number = 0; number < parts * pairs; ++number) multiply(number);
  }

 private:
  Widening widening(int64_t number) const {
    const Range groups = part_of(p.groups, number / pairs * kPartGroups, kPartGroups);
    Widening found{p, tiles.first + number % pairs * 2, tiles.last, groups, weights[number % 2]};
    if (number == parts * pairs) found.done = found.all();  // there is none
    return found;
  }

  // Beside the matrix unit's work what comes next is widened, and what is finished is put into place.
  void multiply(int64_t number) const {
    const int64_t part = number / pairs, pair = number % pairs;
    const Range groups = part_of(p.groups, part * kPartGroups, kPartGroups);
    const uint16_t* rows = p.x_wide + groups.first * all_blocks * kStepSize;
    Widening next = widening(number + 1);
    Keeping keeping{p, (tiles.first + 2 * pair) * kTileRows};
    const int64_t each = (8 + blocks.size() - 1) / blocks.size();
    for (int64_t block = blocks.first; block < blocks.last; ++block) {
      float* to = sums + (pair * kPanelBlocks + block - blocks.first) * kSumsSize;
      add_block(rows + block * groups.size() * kStepSize, weights[number % 2], groups.size(), part == 0, to, [&] {
        next.some(each);
        keeping.some(2);
      });
      if (part + 1 == parts) keeping.begin(block, to);
    }
    next.some(next.all());
    keeping.some(keeping.left);
  }
};

}  // namespace

void WIDENED_TILES(const PackedProduct& p, int64_t first, int64_t last, const ReadNext&) {
  const UnitInUse unit;
  const int64_t blocks = (p.n + kSide - 1) / kSide;
  for (int64_t tile = first; tile < last; tile += kPanelTiles)
    for (int64_t block = 0; block < blocks; block += kPanelBlocks)
      Panel{p, part_of(last, tile, kPanelTiles), part_of(blocks, block, kPanelBlocks), blocks}.compute();
}
