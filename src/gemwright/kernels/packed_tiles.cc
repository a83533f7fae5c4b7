// The packed product for a range of tiles. See packed_tiles.h for the layout.
//
// CMake compiles this file once for each instruction set and width of codes, under the name given by
// PACKED_TILES and with BITS; and with what is best for the processor's memory: STREAMS, tiles that are read beside
// each other for few tokens, and AHEAD, bytes that are asked for before they are needed. The sums of one group are in
// packed_sums.h; the loops around them are shared.
// Nothing of the standard library but memcpy may be used here: an inline function compiled for
// AVX-512 could be the copy of it that the linker keeps for everyone.
#include "packed_tiles.h"

#include <cstring>

#include "packed_sums.h"

namespace {

constexpr int64_t kAhead = AHEAD / kGroupBytes;  // groups asked for before the only pass over them

// To the nearest, ties to even; what arithmetic makes of a value that is not a number stays none.
inline uint16_t narrowed(float value) {
  uint32_t word;
  std::memcpy(&word, &value, sizeof word);
  return uint16_t((word + 0x7fff + ((word >> 16) & 1)) >> 16);
}

// Puts a token's sums of a tile into place, as far as the matrix has these rows.
inline void keep(const PackedProduct& p, int64_t tile, int64_t token, const Floats* sums) {
  float rows[kTileRows];
  for (int part = 0; part < kParts; ++part) store(rows + part * (kTileRows / kParts), sums[part]);
  const int64_t row = tile * kTileRows, at = token * p.outs + row;
  const size_t valid = size_t(p.outs - row < kTileRows ? p.outs - row : kTileRows);
  if (p.narrow) {
    uint16_t halves[kTileRows];
    for (int r = 0; r < kTileRows; ++r) halves[r] = narrowed(rows[r]);
    std::memcpy(static_cast<uint16_t*>(p.out) + at, halves, valid * sizeof(uint16_t));
  } else {
    std::memcpy(static_cast<float*>(p.out) + at, rows, valid * sizeof(float));
  }
}

// Codes of the next tiles, asked for evenly during all passes over these: memory would be idle after the
// first pass. With one pass, and at a first tile, codes are asked for nearby: the processor's own
// prefetching stops at the end of each page. At the end of the last tile those of the call's next ones: what
// lies behind it is another thread's to read.
struct Ahead {
  const uint8_t* codes;  // or nullptr
  int64_t passes, lines, steps;
  ReadNext next;  // after the last tile; else nullptr

  void ask() {
    if (codes == nullptr || steps++ % passes) return;
    for (int64_t line = 0; line < lines; ++line) __builtin_prefetch(codes + 64 * line, 0, 2);
    codes += 64 * lines;
  }

  // With so many groups left of these tiles; the next ones begin where the last of these ends.
  template <int kTiles>
  ASKS void ask_nearby(const Tiles<kTiles>& tiles, int64_t left, int64_t groups) const {
    if (left > kAhead) return tiles.ask(kAhead);
    if (next.codes == nullptr) return tiles.ask(kAhead + (kTiles - 1) * groups);
    ask_for(next, kAhead - left);
  }
};

// Some tiles with kTokens tokens from `token`.
template <int kTokens, int kTiles>
void block(const PackedProduct& p, int64_t tile, int64_t token, bool near, Ahead& ahead) {
  Floats sums[kTokens][kTiles * kParts];
  for (int t = 0; t < kTokens; ++t)
    for (auto& sum : sums[t]) sum = zeros();
  const int64_t begin = token / kTogether * kTogether, tokens = p.n - begin < kTogether ? p.n - begin : kTogether;
  const int64_t at = begin * p.groups + (token - begin);  // as they are interleaved
  Group x{p.x_codes + at * kGroup, p.x_scales + at, p.x_starts + at};
  Tiles<kTiles> tiles(p, tile);
  for (int64_t g = 0; g < p.groups; ++g) {
    if (near) ahead.ask_nearby(tiles, p.groups - g, p.groups);
    ahead.ask();
#if defined(__AVX2__) && !defined(__AVX512VNNI__)
    if constexpr (kTokens > 2) asm volatile("" : "+m"(sums));  // a group's own sums need the registers
#endif
    add_group<kTokens, kTiles>(tiles, x, sums);
    x = {x.codes + tokens * kGroup, x.scales + tokens, x.starts + tokens};
    tiles.step();
  }
  for (int t = 0; t < kTokens; ++t)
    for (int i = 0; i < kTiles; ++i) keep(p, tile + i, token + t, sums[t] + i * kParts);
}

// The first tokens bring the tiles into the cache, where the next ones find them.
template <int kTokens, int kTiles>
void all_tokens(const PackedProduct& p, int64_t tile, int64_t token, bool near, Ahead& ahead) {
  for (; token + kTokens <= p.n; token += kTokens) block<kTokens, kTiles>(p, tile, token, near && token == 0, ahead);
  if constexpr (kTokens > 1) all_tokens<kTokens - 1, kTiles>(p, tile, token, near, ahead);
}

// As many tiles from `tile` as are taken at once, and then what is left.
template <int kTiles>
void all_tiles(const PackedProduct& p, int64_t tile, int64_t last, const ReadNext& next) {
  const int64_t passes = (p.n + kMostTokens<kTiles> - 1) / kMostTokens<kTiles>;
  bool near = true;
  for (; tile + kTiles <= last; tile += kTiles) {
    const bool ask = passes > 1 && tile + 2 * kTiles <= last;
    Ahead ahead{ask ? p.codes + (tile + kTiles) * p.groups * kGroupBytes : nullptr, passes, kTiles * kVectors, 0,
                tile + kTiles == last ? next : ReadNext{}};
    all_tokens<kMostTokens<kTiles>, kTiles>(p, tile, 0, near, ahead);
    near = !ask;
  }
  if constexpr (kTiles > 1) all_tiles<kTiles - 1>(p, tile, last, next);
}

}  // namespace

// Few tokens wait for memory, which one tile after the other reads more evenly, or STREAMS of them; and of tiles with
// many groups two would not fit the cache for the next tokens.
void PACKED_TILES(const PackedProduct& p, int64_t first, int64_t last, const ReadNext& next) {
  if (p.n <= kMostTokens<STREAMS>) return all_tiles<STREAMS>(p, first, last, next);
  const bool one = p.n <= kTogether || p.groups > 128;
  one ? all_tiles<1>(p, first, last, next) : all_tiles<kMostTiles>(p, first, last, next);
}
