"""Attention of new tokens over a cache: only slots that hold something seen are read."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.kernels import native


@partial(jax.custom_jvp, nondiff_argnums=(6, 7))
def slot_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    scales: tuple[jax.Array, jax.Array] | None,
    tokens: tuple[jax.Array, jax.Array],
    positions: jax.Array,
    window: int | None,
    cap: float | None,
) -> jax.Array:
    """Grouped-query attention on the CPU, by the native kernel where there is one.

    A token's result does not depend on the tokens beside it, to the last bit.

    Args:
      queries: (N, H, K) float32, scaled.
      keys, values: (B, S, G, K) bfloat16, float32 or int8; G divides H.
      scales: (B, S, G) float32 each, by which int8 keys and values are multiplied; None for floats.
      tokens: (N,) int32 rows of the cache that the queries read, and (N,) int32 positions; negative in padding,
        whose result is 0 from the kernel and arbitrary from the reference.
      positions: (B, S) int32 of the slots; negative in an empty one.
      window: keys seen, the query's own included; None for all.
      cap: soft cap of the scores.

    Returns:
      (N, H, K) float32; sums and softmax are float32.
    """
    if not native.available():
        return slot_attention_reference(queries, keys, values, scales, tokens, positions, window, cap)
    call = jax.ffi.ffi_call(
        native.SLOT_ATTENTION, jax.ShapeDtypeStruct(queries.shape, jnp.float32), vmap_method="sequential"
    )
    options = {"window": np.int64(window or 0), "cap": np.float32(cap or 0.0), "level": native.choice()}
    return call(queries, keys, values, *(scales or (jnp.zeros(0),) * 2), *tokens, positions, **options)


def slot_attention_reference(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    scales: tuple[jax.Array, jax.Array] | None,
    tokens: tuple[jax.Array, jax.Array],
    positions: jax.Array,
    window: int | None,
    cap: float | None,
) -> jax.Array:
    """The same in plain JAX, over all slots."""
    n, h, k = queries.shape
    rows, at = tokens
    key_scales, value_scales = (None, None) if scales is None else scales
    grouped = queries.reshape(n, keys.shape[2], -1, k)
    scores = jnp.einsum("nghk,nsgk->nghs", grouped, widen(keys, key_scales)[rows])
    scores = scores if cap is None else jnp.tanh(scores / cap) * cap
    held = positions[rows]
    seen = (held >= 0) & (held <= at[:, None])
    seen = seen if window is None else seen & (held > at[:, None] - window)
    shares = jax.nn.softmax(jnp.where(seen[:, None, None], scores, jnp.finfo(jnp.float32).min), axis=-1)
    return jnp.einsum("nghs,nsgk->nghk", shares, widen(values, value_scales)[rows]).reshape(n, h, k)


def widen(stored: jax.Array, scales: jax.Array | None) -> jax.Array:
    """Stored keys or values (..., K) as float32, times their scales (...) where they have any."""
    wide = stored.astype(jnp.float32)
    return wide if scales is None else wide * scales[..., None]


@slot_attention.defjvp
def _derivative(
    window: int | None, cap: float | None, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    # The kernel gives no derivative of its own; decoding asks for none.
    queries, keys, values, scales, tokens, positions = primals

    def of_floats(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        return slot_attention_reference(queries, keys, values, scales, tokens, positions, window, cap)

    return jax.jvp(of_floats, (queries, keys, values), tangents[:3])
