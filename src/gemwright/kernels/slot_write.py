"""One new token a row put into its slot of a cache, in place.

XLA's own update of a bfloat16 cache on the CPU goes through all of it: widened to float32 and back, or
as bits, then copied. The kernel is told to write into the memory that it is given.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gemwright.kernels import native


@jax.custom_jvp
def slot_write(cache: jax.Array, tokens: jax.Array, at: jax.Array) -> jax.Array:
    """The cache with a token a row in it, on the CPU by the native kernel where there is one.

    Args:
      cache: (B, S, G, K) bfloat16; in place where it is not needed afterwards.
      tokens: (B, G, K) bfloat16.
      at: (B,) int32 positions; position p goes to slot p mod S, a negative one nowhere.
    """
    if not native.available():
        return slot_write_reference(cache, tokens, at)
    call = jax.ffi.ffi_call(
        native.SLOT_WRITE,
        jax.ShapeDtypeStruct(cache.shape, cache.dtype),
        vmap_method="sequential",
        input_output_aliases={0: 0},
    )
    return call(cache, tokens, at)


def slot_write_reference(cache: jax.Array, tokens: jax.Array, at: jax.Array) -> jax.Array:
    """The same in plain JAX, for a (B, S, ...) cache and (B, ...) tokens of any dtype."""

    def write_row(row: jax.Array, kept: jax.Array) -> jax.Array:
        start = (row, jnp.maximum(at[row], 0) % cache.shape[1]) + (jnp.int32(0),) * (cache.ndim - 2)
        token = jax.lax.dynamic_slice_in_dim(tokens, row, 1)[:, None]
        old = jax.lax.dynamic_slice(kept, start, token.shape)
        return jax.lax.dynamic_update_slice(kept, jnp.where(at[row] >= 0, token, old), start)

    return jax.lax.fori_loop(0, len(at), write_row, cache)


@slot_write.defjvp
def _derivative(primals: tuple[jax.Array, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    # XLA cannot differentiate a custom call; the write is linear.
    cache, tokens, at = primals
    return slot_write(cache, tokens, at), slot_write_reference(tangents[0], tangents[1], at)
