"""Attention among the tokens of one call, as in training, which never holds the scores: a block of them at a time.

Letters: B texts, T tokens, H heads, G key heads, K the size of a head. The method is that of Dao, arXiv 2307.08691.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.kernels import native


@partial(jax.custom_vjp, nondiff_argnums=(5, 6))
def text_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    segments: jax.Array,
    window: int | None,
    cap: float | None,
) -> jax.Array:
    """Grouped-query attention by the native kernel, where `native.serves`; its derivatives too.

    Products and sums are float32.

    Args:
      queries: (B, T, H, K) float32 or bfloat16, scaled.
      keys, values: (B, T, G, K) of the same dtype; G divides H.
      positions: (B, T) int32, negative in padding, rising within a document: so none is seen that comes later.
      segments: (B, T) int32 of packed documents, which do not see each other.
      window: keys seen, the query's own included; None for all.
      cap: soft cap of the scores.

    Returns:
      (B, T, H, K) in the dtype of the queries; 0 where nothing is seen.
    """
    return _forward(queries, keys, values, positions, segments, window, cap)[0]


def text_attention_reference(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    segments: jax.Array,
    window: int | None,
    cap: float | None,
) -> jax.Array:
    """The same in plain JAX, with all scores."""
    b, t, h, k = queries.shape
    grouped = queries.reshape(b, t, keys.shape[2], -1, k).astype(jnp.float32)
    scores = jnp.einsum("btghk,bsgk->bghts", grouped, keys.astype(jnp.float32))
    scores = scores if cap is None else jnp.tanh(scores / cap) * cap
    at, key_at = positions[:, :, None], positions[:, None]
    seen = (key_at >= 0) & (key_at <= at) & (segments[:, :, None] == segments[:, None])
    seen = (seen if window is None else seen & (key_at > at - window))[:, None, None]
    shares = jax.nn.softmax(jnp.where(seen, scores, jnp.finfo(jnp.float32).min), axis=-1)
    shares = jnp.where(seen, shares, 0)
    mixed = jnp.einsum("bghts,bsgk->btghk", shares, values.astype(jnp.float32))
    return mixed.reshape(b, t, h, k).astype(queries.dtype)


def _options(window: int | None, cap: float | None) -> dict[str, Any]:
    return {"window": np.int64(window or 0), "cap": np.float32(cap or 0.0), "level": native.choice()}


def _forward(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    segments: jax.Array,
    window: int | None,
    cap: float | None,
) -> tuple[jax.Array, Any]:
    results = (
        jax.ShapeDtypeStruct(queries.shape, queries.dtype),
        jax.ShapeDtypeStruct(queries.shape[:3], jnp.float32),
    )
    call = jax.ffi.ffi_call(native.TEXT_ATTENTION, results, vmap_method="sequential")
    given = (queries, keys, values, positions, segments)
    out, log_divisors = call(*given, **_options(window, cap))
    return out, (*given, out, log_divisors)


def _backward(
    window: int | None, cap: float | None, kept: Any, gradient: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array, None, None]:
    results = tuple(jax.ShapeDtypeStruct(of.shape, of.dtype) for of in kept[:3])
    call = jax.ffi.ffi_call(native.TEXT_ATTENTION_BACK, results, vmap_method="sequential")
    to_queries, to_keys, to_values = call(*kept, gradient, **_options(window, cap))
    return to_queries, to_keys, to_values, None, None


text_attention.defvjp(_forward, _backward)
