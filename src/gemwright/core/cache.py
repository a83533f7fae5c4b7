"""Keys and values kept between calls. A layer with a window keeps a ring of that many tokens."""

from functools import partial

import jax
import jax.numpy as jnp

from gemwright.core.module import module
from gemwright.core.ops import attend, causal
from gemwright.kernels import native
from gemwright.kernels.slot_attention import slot_attention
from gemwright.kernels.slot_write import slot_write, slot_write_reference


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


@partial(jax.jit, static_argnames=("window", "cap"))
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
      positions: (B, T), one after the other in a row; -1 marks padding after them, neither kept nor seen.
      cache: S slots; with a window, at least as many as it is wide, or as the sequence is long.

    Returns:
      (B, T, H, K) and the cache with the new tokens in it.
    """
    if window is None or positions.shape[1] == 1:  # nothing still needed is overwritten
        cache = _write(cache, keys, values, positions)
        return _attend_kept(queries, positions, cache, window, cap), cache
    # A chunk's first queries still see keys that its last tokens push out of the ring: attend first.
    visible = causal(positions, jnp.concatenate([cache.positions, positions], axis=1), window)
    all_keys = jnp.concatenate([cache.keys, keys], axis=1)
    all_values = jnp.concatenate([cache.values, values], axis=1)
    mixed = attend(queries, all_keys, all_values, visible, cap)
    return mixed, _write(cache, keys, values, positions)


def _attend_kept(
    queries: jax.Array, positions: jax.Array, cache: KVCache, window: int | None, cap: float | None
) -> jax.Array:
    def over_all_slots(queries: jax.Array, positions: jax.Array, cache: KVCache) -> jax.Array:
        return attend(queries, cache.keys, cache.values, causal(positions, cache.positions, window), cap)

    def over_filled_slots(queries: jax.Array, positions: jax.Array, cache: KVCache) -> jax.Array:
        wide = queries[:, 0].astype(jnp.float32)
        at = positions[:, 0]
        mixed = slot_attention(wide, cache.keys, cache.values, at, cache.positions, window, cap)
        return mixed.astype(queries.dtype)[:, None]

    if positions.shape[1] > 1 or cache.keys.dtype != jnp.bfloat16 or not native.available():
        return over_all_slots(queries, positions, cache)
    return jax.lax.platform_dependent(queries, positions, cache, cpu=over_filled_slots, default=over_all_slots)


def _write(cache: KVCache, keys: jax.Array, values: jax.Array, positions: jax.Array) -> KVCache:
    """The cache with new tokens in it. No scatter: XLA on the CPU widens a bfloat16 cache to float32 for one."""
    new = KVCache(keys, values, positions)
    if positions.shape[1] == 1:
        return _write_token(cache, new)
    return _write_chunk(cache, new)


def _write_token(cache: KVCache, new: KVCache) -> KVCache:
    at = new.positions[:, 0]

    def put(whole: jax.Array, tokens: jax.Array) -> jax.Array:
        if whole.dtype != jnp.bfloat16:
            return slot_write_reference(whole, tokens[:, 0], at)
        return jax.lax.platform_dependent(whole, tokens[:, 0], at, cpu=slot_write, default=slot_write_reference)

    return jax.tree.map(put, cache, new)


def _write_chunk(cache: KVCache, new: KVCache) -> KVCache:
    """Slot by slot, the newest token that belongs there. A row's positions follow each other, then comes padding."""
    slots = jnp.arange(cache.positions.shape[1])
    first, newest = new.positions[:, :1], jnp.max(new.positions, axis=1, keepdims=True)
    position = newest - (newest - slots) % len(slots)  # the last one up to the newest that stands in this slot
    fresh = (position >= first) & (first >= 0)
    index = jnp.clip(position - first, 0, new.positions.shape[1] - 1)

    def choose(old: jax.Array, token: jax.Array) -> jax.Array:
        wide = (..., *(None,) * (old.ndim - 2))
        return jnp.where(fresh[wide], jnp.take_along_axis(token, index[wide], axis=1), old)

    return jax.tree.map(choose, cache, new)
