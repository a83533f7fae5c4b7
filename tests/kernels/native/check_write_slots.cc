// Tokens into their slots of a cache.
#include "write_slots.h"

#include "checks.h"

namespace {

void check(Random& random, int64_t rows, int64_t slots, int64_t bytes) {
  Exact<char> cache(rows * slots * bytes, int(random.between(0, 3)));
  Exact<char> before(cache.size()), tokens(rows * bytes, int(random.between(0, 3)));
  Exact<int32_t> at(rows);
  cache.fill([&] { return random.between(-128, 127); });
  tokens.fill([&] { return random.between(-128, 127); });
  at.fill([&] { return random.between(-2, 3 * slots); });
  std::memcpy(before.data(), cache.data(), size_t(cache.size()));
  write_slots({cache.data(), tokens.data(), at.data(), rows, slots, bytes});
  for (int64_t i = 0; i < cache.size(); ++i) {
    const int64_t row = i / (slots * bytes), slot = i / bytes % slots;
    const bool written = at[row] >= 0 && at[row] % slots == slot;
    expect_near("write_slots", cache[i], written ? tokens[row * bytes + i % bytes] : before[i], 0);
  }
}

}  // namespace

void check_write_slots() {
  Random random(9);
  for (int i = 0; i < 50; ++i)
    check(random, random.between(1, 5), random.between(1, 20), 2 * random.between(1, 40));
}
