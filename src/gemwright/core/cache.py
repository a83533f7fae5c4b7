"""Keys and values kept between calls. A layer with a window keeps a ring of that many tokens."""

import jax
import jax.numpy as jnp

from gemwright.core.module import module
from gemwright.core.ops import attend, causal


@module
class KVCache:
    """One layer's cache: position p of a row stands in slot p mod S.

    Attributes:
      keys: (B, S, G, K).
      values: (B, S, G, K).
      positions: (B, S) int32, -1 where a slot is empty.
    """

    keys: jax.Array
    values: jax.Array
    positions: jax.Array


def empty_cache(batch: int, slots: int, kv_heads: int, head_dim: int, dtype: jnp.dtype) -> KVCache:
    shape = (batch, slots, kv_heads, head_dim)
    return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), jnp.full((batch, slots), -1, jnp.int32))


def cached_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    cache: KVCache,
    window: int | None,
    cap: float | None,
) -> tuple[jax.Array, KVCache]:
    """Attend over the cache and the new tokens, and keep the new tokens.

    Args:
      queries, keys, values: (B, T, heads, K) of the new tokens, rotated and scaled.
      positions: (B, T); -1 marks padding, which is neither kept nor seen.
      cache: S slots; with a window, at least as many as it is wide, or as the sequence is long.

    Returns:
      (B, T, H, K) and the cache with the new tokens in it.
    """
    slots = cache.keys.shape[1]
    if window is None or positions.shape[1] == 1:  # nothing still needed is overwritten
        cache = _write(cache, keys, values, positions)
        visible = causal(positions, cache.positions, window)
        return attend(queries, cache.keys, cache.values, visible, cap), cache
    # A chunk's first queries still see keys that its last tokens push out of the ring: attend first.
    visible = causal(positions, jnp.concatenate([cache.positions, positions], axis=1), window)
    all_keys = jnp.concatenate([cache.keys, keys], axis=1)
    all_values = jnp.concatenate([cache.values, values], axis=1)
    mixed = attend(queries, all_keys, all_values, visible, cap)
    newest = jnp.max(positions, axis=1, keepdims=True)
    kept = jnp.where(positions > newest - slots, positions, -1)
    return mixed, _write(cache, keys, values, kept)


def _write(cache: KVCache, keys: jax.Array, values: jax.Array, positions: jax.Array) -> KVCache:
    slots = cache.keys.shape[1]
    slot = jnp.where(positions >= 0, positions % slots, slots)  # one past the end is dropped
    row = jnp.arange(positions.shape[0])[:, None]
    return KVCache(
        cache.keys.at[row, slot].set(keys, mode="drop"),
        cache.values.at[row, slot].set(values, mode="drop"),
        cache.positions.at[row, slot].set(positions, mode="drop"),
    )
