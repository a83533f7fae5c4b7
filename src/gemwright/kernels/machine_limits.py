"""What this machine can do at most: bytes read and multiply-adds a second, on all its threads.

The kernels read buffers, or multiply within registers, and do nothing else. Beside each is the plain JAX
that it must equal; timed without the native library it may stay below the limit.
"""

import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.kernels import native

PAIRS, REPEATS = 64, 64
"""A round of products is `PAIRS` multiply-adds, `REPEATS` times."""

_LINE = 64  # bytes
_ROUNDS = 1 << 17  # of each chunk: some milliseconds, beside which waking a thread is nothing
_TRIES = 5
_CHAINS = 4  # of products by the matrix unit that do not wait for each other


def read_bandwidth(arrays: Sequence[jax.Array]) -> float:
    """Bytes a second at which all threads together read these arrays, the best of some tries.

    In a row or four parts beside each other, whichever is faster here. For the memory's own rate they must be larger
    than the caches; a model's weights are.
    """
    seconds = min(_best_seconds(lambda four=four: read_all(*arrays, four=four)) for four in (False, True))
    return sum(array.nbytes for array in arrays) / seconds


def int8_peak() -> float | None:
    """Operations a second, two a multiply-add, of 8-bit products summed in 32 bits; None without the native library."""
    codes, x = np.arange(PAIRS, dtype=np.uint8) % 16, np.arange(PAIRS, dtype=np.int8)
    return _peak(int_products, jax.device_put(codes), jax.device_put(x))


def float32_peak() -> float | None:
    """The same of float32 products."""
    values = jax.device_put(np.full(PAIRS, 0.5, np.float32))
    return _peak(float_products, values, values)


def matrix_peak() -> float | None:
    """The same of products of bfloat16 by the processor's matrix unit; None where it has none."""
    if not native.has_matrix_unit():
        return None
    ones = jax.device_put(np.ones((16, 32), jnp.bfloat16))
    chunks = 4 * (os.cpu_count() or 1)
    seconds = _best_seconds(lambda: matrix_products(ones, ones.reshape(16, 16, 2), chunks, _ROUNDS))
    return 2 * chunks * _ROUNDS * _CHAINS * 16 * 32 * 16 / seconds


def _peak(products: Callable[..., jax.Array], a: jax.Array, b: jax.Array) -> float | None:
    if not native.available():
        return None
    chunks = 4 * (os.cpu_count() or 1)
    seconds = _best_seconds(lambda: products(a, b, chunks, _ROUNDS))
    return 2 * PAIRS * REPEATS * _ROUNDS * chunks / seconds


def _best_seconds(action: Callable[[], jax.Array]) -> float:
    action().block_until_ready()  # compiles
    times: list[float] = []
    for _ in range(_TRIES):
        begun = time.perf_counter()
        action().block_until_ready()
        times.append(time.perf_counter() - begun)
    return min(times)


# ------------------------------------------------------------------------------------ the kernels


def read_all(*arrays: jax.Array, four: bool = False) -> jax.Array:
    """(16,) uint32: the exclusive or of all lines of 64 bytes; each array's last line is filled with zeros.

    Args:
      four: whether each thread reads four places in turn.
    """
    return _read(arrays, native.choice() if native.available() else "off", four)


@partial(jax.jit, static_argnames=("level", "four"))
def _read(arrays: Sequence[jax.Array], level: str, four: bool) -> jax.Array:
    def natively(*arrays: jax.Array) -> jax.Array:
        call = jax.ffi.ffi_call(native.READ_ALL, jax.ShapeDtypeStruct((_LINE // 4,), jnp.uint32))
        return call(*arrays, level=level, four=four)

    if level == "off":
        return read_all_reference(*arrays)
    return jax.lax.platform_dependent(*arrays, cpu=natively, default=read_all_reference)


def read_all_reference(*arrays: jax.Array) -> jax.Array:
    """The same in plain JAX."""
    words = jnp.zeros(_LINE // 4, jnp.uint32)
    for array in arrays:
        whole = array.astype(jnp.uint8) if array.dtype == jnp.bool_ else array
        flat = jax.lax.bitcast_convert_type(whole, jnp.uint8).reshape(-1)
        lines = jnp.pad(flat, (0, -len(flat) % _LINE)).reshape(-1, _LINE // 4, 4)
        as_words = jax.lax.bitcast_convert_type(lines, jnp.uint32)
        words ^= jax.lax.reduce(as_words, np.uint32(0), jax.lax.bitwise_xor, (0,))
    return words


def int_products(codes: jax.Array, x: jax.Array, chunks: int, rounds: int) -> jax.Array:
    """(chunks,) uint32: `rounds` times `REPEATS` times the sum of products, which wraps around; natively only.

    Args:
      codes: (64,) uint8, at most 15.
      x: (64,) int8, within [-127, 127].
    """
    return _products(native.INT_PRODUCTS, jnp.uint32, codes, x, chunks, rounds)


def int_products_reference(codes: jax.Array, x: jax.Array, chunks: int, rounds: int) -> jax.Array:
    """The same in plain JAX, which multiplies once."""
    total = jnp.sum(codes.astype(jnp.int32) * x.astype(jnp.int32)).astype(jnp.uint32)
    return jnp.full(chunks, total * np.uint32(rounds * REPEATS))


def float_products(weights: jax.Array, x: jax.Array, chunks: int, rounds: int) -> jax.Array:
    """(chunks,) float32: as `int_products`, of (64,) float32."""
    return _products(native.FLOAT_PRODUCTS, jnp.float32, weights, x, chunks, rounds)


def float_products_reference(weights: jax.Array, x: jax.Array, chunks: int, rounds: int) -> jax.Array:
    """The same in plain JAX, which multiplies once."""
    return jnp.full(chunks, jnp.sum(weights * x) * np.float32(rounds * REPEATS))


def matrix_products(left: jax.Array, right: jax.Array, chunks: int, rounds: int) -> jax.Array:
    """(chunks, 4, 16, 16) float32: `rounds` times the product of two matrices, summed; by the matrix unit alone.

    Args:
      left: (16, 32) bfloat16.
      right: (16, 16, 2) bfloat16, (32, 16) with pairs of rows beside each other.
    """
    call = jax.ffi.ffi_call(native.MATRIX_PRODUCTS, jax.ShapeDtypeStruct((chunks, _CHAINS, 16, 16), jnp.float32))
    return call(left, right, level=native.choice(), rounds=np.int64(rounds))


def matrix_products_reference(left: jax.Array, right: jax.Array, chunks: int, rounds: int) -> jax.Array:
    """The same in plain JAX, which multiplies once."""
    once = jnp.einsum("npk,prk->nr", left.reshape(16, 16, 2), right, preferred_element_type=jnp.float32)
    return jnp.broadcast_to(once * rounds, (chunks, _CHAINS, 16, 16))


def _products(name: str, dtype: Any, a: jax.Array, b: jax.Array, chunks: int, rounds: int) -> jax.Array:
    call = jax.ffi.ffi_call(name, jax.ShapeDtypeStruct((chunks,), dtype))
    return call(a, b, level=native.choice(), rounds=np.int64(rounds))
