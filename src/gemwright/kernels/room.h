// Memory of a call's own.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <new>

// Not initialised, and never without memory; at a multiple of 64 bytes.
template <class Number>
std::shared_ptr<Number[]> room_of(int64_t count) {
  const size_t bytes = size_t(count) * sizeof(Number);
  auto* room = static_cast<Number*>(std::aligned_alloc(64, (bytes + 64) / 64 * 64));
  if (room == nullptr) throw std::bad_alloc();
  return std::shared_ptr<Number[]>(room, [](Number* to_free) { std::free(to_free); });
}
