"""New tokens put into their slots of a cache, in place.

XLA's own update of a bfloat16 cache on the CPU goes through all of it: widened to float32 and back, or
as bits, then copied. The kernel is told to write into the memory that it is given.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gemwright.kernels import native

Arrays = tuple[jax.Array, ...]


@jax.custom_jvp
def slot_write(cache: Arrays, tokens: Arrays, rows: jax.Array, at: jax.Array) -> Arrays:
    """The arrays of a cache with tokens in them, on the CPU by the native kernel where there is one.

    Args:
      cache: (B, S, ...) each; in place where they are not needed afterwards.
      tokens: (N, ...) each, in the dtypes of the cache.
      rows: (N,) int32, of the cache.
      at: (N,) int32 positions; position p goes to slot p mod S, a negative one nowhere. Of several tokens for
        one slot the last stays.
    """
    if not native.available():
        return slot_write_reference(cache, tokens, rows, at)
    count = len(cache)
    call = jax.ffi.ffi_call(
        native.SLOT_WRITE,
        tuple(jax.ShapeDtypeStruct(whole.shape, whole.dtype) for whole in cache),
        vmap_method="sequential",
        input_output_aliases={2 + index: index for index in range(count)},
    )
    return tuple(call(rows, at, *cache, *tokens))


def slot_write_reference(cache: Arrays, tokens: Arrays, rows: jax.Array, at: jax.Array) -> Arrays:
    """The same in plain JAX, slot by slot: XLA on the CPU widens a bfloat16 cache to float32 for a scatter."""
    newest = _newest(cache[0], rows, at)

    def choose(old: jax.Array, token: jax.Array) -> jax.Array:
        wide = (..., *(None,) * (old.ndim - 2))
        return jnp.where((newest >= 0)[wide], token[jnp.maximum(newest, 0)], old)

    return tuple(map(choose, cache, tokens))


def slot_scatter(cache: Arrays, tokens: Arrays, rows: jax.Array, at: jax.Array) -> Arrays:
    """The same for other devices, which write in place by themselves."""
    slots = cache[0].shape[1]
    kept = _newest(cache[0], rows, at)[rows, at % slots] == jnp.arange(len(at))
    places = jnp.where(kept & (at >= 0), at % slots, slots)  # out of range is dropped

    return tuple(whole.at[rows, places].set(part, mode="drop") for whole, part in zip(cache, tokens, strict=True))


def _newest(cache: jax.Array, rows: jax.Array, at: jax.Array) -> jax.Array:
    """(B, S): the last of the tokens that belong in each slot; -1 where none does."""
    slots = cache.shape[1]
    places = jnp.where(at >= 0, at % slots, slots)
    none = jnp.full(cache.shape[:2], -1, jnp.int32)
    return none.at[rows, places].max(jnp.arange(len(at), dtype=jnp.int32), mode="drop")


@slot_write.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Arrays, Arrays]:
    # XLA cannot differentiate a custom call; the write is linear. Integers have no tangents.
    rows, at = primals[2:]

    def tangent(whole: jax.Array, part: jax.Array) -> jax.Array:
        if whole.dtype == jax.dtypes.float0:
            return whole
        return slot_write_reference((whole,), (part,), rows, at)[0]

    return slot_write(*primals), tuple(map(tangent, tangents[0], tangents[1]))
