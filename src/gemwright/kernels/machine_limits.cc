// XLA handlers that measure the machine: how fast all threads read buffers, and multiply in registers.
#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "levels.h"
#include "limit_loops.h"
#include "matrix_loop.h"
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

ffi::Error read_all(ffi::ThreadPool pool, ffi::RemainingArgs buffers, std::string_view level, bool four,
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
    loops->read(piece.from, piece.bytes, four, words);
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

// out (chunks, 4, 16, 16), of a (16, 32) and b (16, 16, 2).
ffi::Error matrix_products(ffi::ThreadPool pool, ffi::BufferR2<ffi::BF16> left, ffi::BufferR3<ffi::BF16> right,
                           std::string_view level, int64_t rounds, ffi::ResultBufferR4<ffi::F32> out) {
  if (left.element_count() != 16 * 32 || right.element_count() != 16 * 32 ||
      int64_t(out->element_count()) != out->dimensions()[0] * kSumsOfLoop * 16 * 16)
    return ffi::Error::InvalidArgument("matrix_products: shapes do not fit");
  if (choose_level(level) != Level::kAmx) return unsupported(level);
#if defined(GEMWRIGHT_AMX)
  const auto* a = reinterpret_cast<const uint16_t*>(left.typed_data());
  const auto* b = reinterpret_cast<const uint16_t*>(right.typed_data());
  float* to = out->typed_data();
  in_parallel(pool, out->dimensions()[0],
              [=](int64_t chunk) { matrix_loop_amx(a, b, rounds, to + chunk * kSumsOfLoop * 16 * 16); });
#else
  (void)rounds;
#endif
  return ffi::Error::Success();
}

}  // namespace

extern "C" {
__attribute__((visibility("default"))) XLA_FFI_Error* gemwright_read_all(XLA_FFI_CallFrame* frame);
__attribute__((visibility("default"))) XLA_FFI_Error* gemwright_int_products(XLA_FFI_CallFrame* frame);
__attribute__((visibility("default"))) XLA_FFI_Error* gemwright_float_products(XLA_FFI_CallFrame* frame);
__attribute__((visibility("default"))) XLA_FFI_Error* gemwright_matrix_products(XLA_FFI_CallFrame* frame);

// Whether a level, by its name, has the matrix unit of this processor.
__attribute__((visibility("default"))) int gemwright_has_matrix_unit(const char* level) {
  return choose_level(level) == Level::kAmx;
}
}

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_read_all, read_all,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .RemainingArgs()
                                  .Attr<std::string_view>("level")
                                  .Attr<bool>("four")
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

XLA_FFI_DEFINE_HANDLER_SYMBOL(gemwright_matrix_products, matrix_products,
                              ffi::Ffi::Bind()
                                  .Ctx<ffi::ThreadPool>()
                                  .Arg<ffi::BufferR2<ffi::BF16>>()
                                  .Arg<ffi::BufferR3<ffi::BF16>>()
                                  .Attr<std::string_view>("level")
                                  .Attr<int64_t>("rounds")
                                  .Ret<ffi::BufferR4<ffi::F32>>());
