// Tokens into their slots of a cache.
#include "write_slots.h"

#include "checks.h"

namespace {

void check(Random& random, int64_t rows, int64_t slots, int64_t count, int64_t bytes) {
  Exact<char> cache(rows * slots * bytes, int(random.between(0, 3)));
  Exact<char> before(cache.size()), tokens(count * bytes, int(random.between(0, 3)));
  Exact<int32_t> row(count), at(count);
  cache.fill([&] { return random.between(-128, 127); });
  tokens.fill([&] { return random.between(-128, 127); });
  at.fill([&] { return random.between(-2, 3 * slots); });
  row.fill([&] { return random.between(0, rows - 1); });
  std::memcpy(before.data(), cache.data(), size_t(cache.size()));
  const bool whole = write_slots({cache.data(), tokens.data(), row.data(), at.data(), rows, slots, count, bytes});
  expect_near("write_slots takes all", whole, true, 0);
  for (int64_t token = 0; token < count; ++token)  // later tokens replace earlier ones
    if (at[token] >= 0)
      std::memcpy(before.data() + (row[token] * slots + at[token] % slots) * bytes, tokens.data() + token * bytes,
                  size_t(bytes));
  for (int64_t i = 0; i < cache.size(); ++i) expect_near("write_slots", cache[i], before[i], 0);
}

}  // namespace

void check_write_slots() {
  Random random(9);
  for (int i = 0; i < 50; ++i)
    check(random, random.between(1, 5), random.between(1, 20), random.between(1, 9), 2 * random.between(1, 40));
}
