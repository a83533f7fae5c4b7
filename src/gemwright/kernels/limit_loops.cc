// The loops of limit_loops.h for one instruction set, under the name given by LIMIT_LOOPS.
//
// Operands stay in registers; OPAQUE keeps the compiler from seeing that a product is always the same.
#include "limit_loops.h"

#include "prefetch.h"
#include "vectors.h"

#if defined(__AVX512F__) && defined(__AVX2__)
#define OPAQUE(value) asm volatile("" : "+v"(value))
#elif defined(__x86_64__) && !defined(__AVX512F__)
#define OPAQUE(value) asm volatile("" : "+x"(value))
#elif defined(__aarch64__)
#define OPAQUE(value) asm volatile("" : "+w"(value))
#else
#define OPAQUE(value) asm volatile("" : "+m"(value))
#endif

namespace {

constexpr int64_t kAhead = 2048;  // bytes asked for before they are needed
constexpr int kVectorBytes = 4 * kLanes, kParts = kLine / kVectorBytes;

// The lines of kStreams parts of `bytes` that follow each other.
template <int kStreams>
void read_parts(const uint8_t* from, int64_t bytes, uint32_t* words) {
  Words sums[kParts] = {};
  for (int64_t at = 0; at < bytes; at += kLine) {
    for (int stream = 0; stream < kStreams; ++stream) {
      const uint8_t* line = from + stream * bytes + at;
      prefetch(line, kAhead);
      for (int part = 0; part < kParts; ++part) {
        Words loaded;
        std::memcpy(&loaded, line + part * kVectorBytes, sizeof loaded);
        sums[part] ^= loaded;
      }
    }
  }
  uint32_t all[kLineWords];
  std::memcpy(all, sums, sizeof all);
  for (int word = 0; word < kLineWords; ++word) words[word] ^= all[word];
}

void read(const uint8_t* from, int64_t bytes, bool four, uint32_t* words) {
  const int64_t lines = bytes / kLine, quarter = four ? lines / 4 * kLine : 0;
  read_parts<4>(from, quarter, words);
  read_parts<1>(from + 4 * quarter, lines * kLine - 4 * quarter, words);
  uint32_t last[kLineWords] = {};
  std::memcpy(last, from + lines * kLine, size_t(bytes - lines * kLine));
  for (int word = 0; word < kLineWords; ++word) words[word] ^= last[word];
}

#if defined(__AVX512VNNI__)

uint32_t int_products(const uint8_t* codes, const int8_t* x, int64_t rounds) {
  constexpr int kChains = 16;
  __m512i a = _mm512_loadu_si512(codes), b = _mm512_loadu_si512(x), sums[kChains];
  for (auto& sum : sums) sum = _mm512_setzero_si512();
  for (int64_t round = 0; round < rounds; ++round) {
    for (int repeat = 0; repeat < kRepeats / kChains; ++repeat) {
      OPAQUE(a);
      for (auto& sum : sums) sum = _mm512_dpbusd_epi32(sum, a, b);
    }
  }
  for (int chain = 1; chain < kChains; ++chain) sums[0] = _mm512_add_epi32(sums[0], sums[chain]);
  uint32_t lanes[16], total = 0;
  std::memcpy(lanes, sums, sizeof lanes);
  for (uint32_t lane : lanes) total += lane;
  return total;
}

#elif defined(__AVX2__)

uint32_t int_products(const uint8_t* codes, const int8_t* x, int64_t rounds) {
  constexpr int kChains = 4, kPasses = kRepeats / kChains / 4;
  const __m256i ones = _mm256_set1_epi16(1);
  __m256i a[2], b[2], sums[kChains];
  std::memcpy(a, codes, sizeof a);
  std::memcpy(b, x, sizeof b);
  for (auto& sum : sums) sum = _mm256_setzero_si256();
  for (int64_t round = 0; round < rounds; ++round) {
    for (int pass = 0; pass < kPasses; ++pass) {
      __m256i pairs[kChains];  // of 16 bits: 8 sums of two products, each at most 2 * 15 * 127
      for (auto& pair : pairs) pair = _mm256_setzero_si256();
      for (int repeat = 0; repeat < 4; ++repeat) {
        OPAQUE(a[0]);
        OPAQUE(a[1]);
        for (auto& pair : pairs) {
          pair = _mm256_add_epi16(pair, _mm256_maddubs_epi16(a[0], b[0]));
          OPAQUE(pair);  // or GCC adds in another order, and keeps products in memory for it
          OPAQUE(b[0]);
          pair = _mm256_add_epi16(pair, _mm256_maddubs_epi16(a[1], b[1]));
          OPAQUE(pair);
          OPAQUE(b[1]);
        }
      }
      for (int chain = 0; chain < kChains; ++chain)
        sums[chain] = _mm256_add_epi32(sums[chain], _mm256_madd_epi16(pairs[chain], ones));
    }
  }
  for (int chain = 1; chain < kChains; ++chain) sums[0] = _mm256_add_epi32(sums[0], sums[chain]);
  uint32_t lanes[8], total = 0;
  std::memcpy(lanes, sums, sizeof lanes);
  for (uint32_t lane : lanes) total += lane;
  return total;
}

#else

typedef int16_t Shorts __attribute__((vector_size(16)));
typedef int32_t Longs __attribute__((vector_size(32)));

// Products of 16 bits: 16 of at most 15 * 127 fit before they are widened.
uint32_t int_products(const uint8_t* codes, const int8_t* x, int64_t rounds) {
  uint32_t total = 0;
  for (int part = 0; part < kPairs / 8; ++part) {
    Shorts a, b;
    for (int lane = 0; lane < 8; ++lane) a[lane] = codes[8 * part + lane], b[lane] = x[8 * part + lane];
    Longs sums = {};
    for (int64_t round = 0; round < rounds * (kRepeats / 16); ++round) {
      Shorts products = {};
      for (int repeat = 0; repeat < 16; ++repeat) {
        OPAQUE(a);
        products += a * b;
      }
      sums += __builtin_convertvector(products, Longs);
    }
    for (int lane = 0; lane < 8; ++lane) total += uint32_t(sums[lane]);
  }
  return total;
}

#endif

float float_products(const float* weights, const float* x, int64_t rounds) {
  constexpr int kChains = 8, kVectors = kPairs / kLanes;
  Floats sums[kChains] = {};
  for (int vector = 0; vector < kVectors; ++vector) {
    Floats a = load(weights + vector * kLanes);
    const Floats b = load(x + vector * kLanes);
    for (int64_t round = 0; round < rounds * (kRepeats / kChains); ++round) {
      OPAQUE(a);
      for (auto& sum : sums) sum += a * b;
    }
  }
  float all = 0;
  for (const auto& sum : sums) all += total(sum);
  return all;
}

}  // namespace

extern const LimitLoops LIMIT_LOOPS = {read, int_products, float_products};
