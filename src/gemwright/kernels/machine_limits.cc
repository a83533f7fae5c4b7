// XLA handlers that measure the machine: how fast all threads read buffers, and multiply in registers.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "levels.h"
#include "limit_loops.h"
#include "parallel.h"
#include "xla/ffi/api/ffi.h"

namespace ffi = xla::ffi;

namespace {

ffi::Error unsupported(std::string_view level) {
  return ffi::Error::InvalidArgument("machine_limits: this processor does not support " + std::string(level));
}

struct Piece {
  const uint8_t* from;
  int64_t bytes;
};

// Pieces of 1 MiB, so that threads have about the same to read.
ffi::ErrorOr<std::vector<Piece>> pieces_of(const ffi::RemainingArgs& buffers) {
  constexpr int64_t kPiece = 1 << 20;
  std::vector<Piece> pieces;
  for (size_t index = 0; index < buffers.size(); ++index) {
    auto buffer = buffers.get<ffi::AnyBuffer>(index);
    if (buffer.has_error()) return ffi::Unexpected(buffer.error());
    const auto* from = static_cast<const uint8_t*>(buffer->untyped_data());
    const auto bytes = int64_t(buffer->size_bytes());
    for (int64_t at = 0; at < bytes; at += kPiece) pieces.push_back({from + at, std::min(kPiece, bytes - at)});
  }
  return pieces;
}

ffi::Error read_all(ffi::ThreadPool pool, ffi::RemainingArgs buffers, std::string_view level,
                    ffi::ResultBufferR1<ffi::U32> out) {
  const LimitLoops* loops = VARIANT_OF(&limit_loops, level);
  if (loops == nullptr) return unsupported(level);
  auto found = pieces_of(buffers);
  if (found.has_error()) return found.error();
  auto pieces = std::make_shared<const std::vector<Piece>>(std::move(*found));
  auto sums = std::make_shared<std::vector<std::atomic<uint32_t>>>(kLineWords);
  in_parallel(pool, int64_t(pieces->size()), [=](int64_t chunk) {
    uint32_t words[kLineWords] = {};
    const Piece& piece = (*pieces)[size_t(chunk)];
    loops->read(piece.from, piece.bytes, words);
    for (int word = 0; word < kLineWords; ++word) (*sums)[size_t(word)].fetch_xor(words[word]);
  });
  for (int word = 0; word < kLineWords; ++word) out->typed_data()[word] = (*sums)[size_t(word)];
  return ffi::Error::Success();
}

ffi::Error int_products(ffi::ThreadPool pool, ffi::BufferR1<ffi::U8> codes, ffi::BufferR1<ffi::S8> x,
                        std::string_view level, int64_t rounds, ffi::ResultBufferR1<ffi::U32> out) {
  const LimitLoops* loops = VARIANT_OF(&limit_loops, level);
  if (loops == nullptr) return unsupported(level);
  const uint8_t* a = codes.typed_data();
  const int8_t* b = x.typed_data();
  uint32_t* to = out->typed_data();
  in_parallel(pool, out->dimensions()[0], [=](int64_t chunk) { to[chunk] = loops->int_products(a, b, rounds); });
  return ffi::Error::Success();
}

ffi::Error float_products(ffi::ThreadPool pool, ffi::BufferR1<ffi::F32> weights, ffi::BufferR1<ffi::F32> x,
                          std::string_view level, int64_t rounds, ffi::ResultBufferR1<ffi::F32> out) {
  const LimitLoops* loops = VARIANT_OF(&limit_loops, level);
  if (loops == nullptr) return unsupported(level);
  const float *a = weights.typed_data(), *b = x.typed_data();
  float* to = out->typed_data();
  in_parallel(pool, out->dimensions()[0], [=](int64_t chunk) { to[chunk] = loops->float_products(a, b, rounds); });
  return ffi::Error::Success();
}

}  // namespace

extern "C" {
__attribute__((visibility("default"))) XLA_FFI_Error* gemwright_read_all(XLA_FFI_CallFrame* frame);
__attribute__((visibility("default"))) XLA_FFI_Error* gemwright_int_products(XLA_FFI_CallFrame* frame);
__attribute__((visibility("default"))) XLA_FFI_Error* gemwright_float_products(XLA_FFI_CallFrame* frame);
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_read_all, read_all,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Attr<std::string_view>("level")
                                  .Ret<ffi::BufferR1<ffi::U32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_int_products, int_products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR1<ffi::U8>>()
                                  .Arg<ffi::BufferR1<ffi::S8>>()
                                  .Attr<std::string_view>("level")
                                  .Attr<int64_t>("rounds")
                                  .Ret<ffi::BufferR1<ffi::U32>>());

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_float_products, float_products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR1<ffi::F32>>()
                                  .Arg<ffi::BufferR1<ffi::F32>>()
                                  .Attr<std::string_view>("level")
                                  .Attr<int64_t>("rounds")
                                  .Ret<ffi::BufferR1<ffi::F32>>());
