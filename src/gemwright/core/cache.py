"""What layers keep between calls: keys and values of all tokens, or of a ring of a window's tokens and some to spare;
or the state of a recurrence, no larger for a longer text."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp

from gemwright.core.module import module
from gemwright.core.ops import Rotation, attend, causal, rotate
from gemwright.kernels import gpu, native
from gemwright.kernels.slot_attention import slot_attention, widen
from gemwright.kernels.slot_write import slot_scatter, slot_write
from gemwright.kernels.token_attention import How, Slots, Token, serves, token_attention

SPARE = 15
"""Slots of a ring beyond its window: one more token than these is kept before any attends, and up to as many can be
taken back, since what they pushed out is seen no more."""


@module
class KVCache:
    """One layer's cache: position p of a row stands in slot p mod S.

    A slot may hold a position that was taken back: nobody sees it before it is written again.

    Attributes:
      keys: (B, S, G, K), of floats or int8.
      values: (B, S, G, K).
      positions: (B, S) int32, -1 where a slot is empty.
      key_scales: (B, S, G) float32, of int8 keys.
      value_scales: (B, S, G) float32, of int8 values.
      rows: (R,) int32: the row that each row of a call reads and writes, some perhaps more than once; None for
        all rows in order.
    """

    keys: jax.Array
    values: jax.Array
    positions: jax.Array
    key_scales: jax.Array | None = None
    value_scales: jax.Array | None = None
    rows: jax.Array | None = None

    @property
    def scales(self) -> tuple[jax.Array, jax.Array] | None:
        return None if self.key_scales is None or self.value_scales is None else (self.key_scales, self.value_scales)

    def forget(self, length: int) -> "KVCache":
        """The cache without the positions from `length` on."""
        return replace(self, positions=jnp.where(self.positions < length, self.positions, -1))

    def cut(self, length: jax.Array) -> "KVCache":
        """`forget`, and zeros in its place: an attention share of 0 would not hide a value that is not a number."""
        kept = (self.positions >= 0) & (self.positions < length)

        def zero(part: jax.Array) -> jax.Array:
            return jnp.where(kept[(..., *(None,) * (part.ndim - 2))], part, jnp.zeros((), part.dtype))

        return replace(jax.tree.map(zero, self), positions=jnp.where(kept, self.positions, -1))

    def grown(self, larger: "KVCache") -> "KVCache":
        """What is kept, in an empty cache of more slots. Rings have not turned before they grow: slots keep places."""
        slots = self.keys.shape[1]
        return jax.tree.map(lambda whole, part: whole.at[:, :slots].set(part), larger, self)


@module
class RecurrentState:
    """What one layer keeps of the tokens that each row has read. It cannot be cut back to fewer of them.

    Attributes:
      hidden: (B, W) float32, the scan's last value.
      tail: (B, C-1, W), the convolution's last inputs, oldest first.
      rows: (R,) int32: the row that each row of a call goes on with, none more than once but for padding; None for
        all rows in order.
    """

    hidden: jax.Array
    tail: jax.Array
    rows: jax.Array | None = None

    def forget(self, length: int) -> "RecurrentState":
        """After a cut to no tokens: what begins at position 0 does not look at the state."""
        assert length == 0, "a recurrent state cannot be cut back"
        return self

    def cut(self, length: jax.Array) -> "RecurrentState":
        """The state with its row of all, or of no tokens."""
        return self

    def grown(self, larger: "RecurrentState") -> "RecurrentState":
        """The state in a cache made for more tokens: as large as before."""
        return self

    def of_call(self) -> "RecurrentState":
        """What each row of a call goes on with."""
        return self if self.rows is None else RecurrentState(self.hidden[self.rows], self.tail[self.rows])

    def after_call(self, hidden: jax.Array, tail: jax.Array, read: jax.Array) -> "RecurrentState":
        """The state with (R, ...) values of a call in it, where (R,) `read` says that a row read any token."""
        tail = tail.astype(self.tail.dtype)
        if self.rows is None:
            return RecurrentState(hidden, tail)
        into = jnp.where(read, self.rows, len(self.hidden))  # padding may name a row that another one goes on with
        put = replace(self, hidden=self.hidden.at[into].set(hidden, mode="drop"))
        return replace(put, tail=self.tail.at[into].set(tail, mode="drop"))


def empty_state(batch: int, width: int, taps: int, dtype: jnp.dtype) -> RecurrentState:
    """The state before any token."""
    return RecurrentState(jnp.zeros((batch, width)), jnp.zeros((batch, taps - 1, width), dtype))


LayerCache = KVCache | RecurrentState
"""Of one layer, for all rows of a batch."""


def empty_cache(
    batch: int, slots: int, kv_heads: int, head_dim: int, dtype: jnp.dtype, bits: int | None = None
) -> KVCache:
    """A cache that holds nothing: of `dtype`, or of `bits` 8 with a scale for each head of a slot."""
    if bits not in (None, 8):
        raise ValueError(f"cache_bits: expected 8 or none, found {bits}")
    shape, positions = (batch, slots, kv_heads, head_dim), jnp.full((batch, slots), -1, jnp.int32)
    if bits is None:
        return KVCache(jnp.zeros(shape, dtype), jnp.zeros(shape, dtype), positions)
    scales = jnp.zeros(shape[:3]), jnp.zeros(shape[:3])
    return KVCache(jnp.zeros(shape, jnp.int8), jnp.zeros(shape, jnp.int8), positions, *scales)


@partial(jax.jit, static_argnames=("window", "cap"))
def cached_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    positions: jax.Array,
    cache: KVCache,
    window: int | None,
    cap: float | None,
    reach: jax.Array | None = None,
) -> tuple[jax.Array, KVCache]:
    """Attend over the cache and the new tokens, and keep the new tokens.

    Args:
      queries, keys, values: (R, T, heads, K) of the new tokens, rotated and scaled.
      positions: (R, T), one after the other in a row; -1 marks padding after them, neither kept nor seen. Calls
        that read a row of the cache more than once have a T of 1, and at most `SPARE` + 1 tokens for each row.
      cache: S slots; with a window, `SPARE` more than it is wide, or as many as the sequence is long.
      reach: (R, T) the last position that each token sees, none after this call's; its own if None.

    Returns:
      (R, T, H, K) and the cache with the new tokens in it.
    """
    new = _stored(keys, values, positions, cache)
    if window is None:
        cache = _write(cache, new)
        return _attend_kept(queries, positions if reach is None else reach, cache, window, cap), cache
    if reach is None and positions.shape[1] <= 1 + SPARE:  # nothing still needed is overwritten
        cache = _write(cache, new)
        return _attend_kept(queries, positions, cache, window, cap), cache
    # A longer chunk's first queries still see keys that its last tokens push out of the ring: attend first.
    held = _rows_of(cache)
    held = replace(held, positions=jnp.where(held.positions < positions[:, :1], held.positions, -1))
    both = jax.tree.map(lambda old, fresh: jnp.concatenate([old, fresh], axis=1), held, new)
    return _attend_all(queries, positions, both, window, cap, reach), _write(cache, new)


def rotated_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    turn: tuple[Rotation, float],
    positions: jax.Array,
    cache: KVCache,
    window: int | None,
    cap: float | None,
    reach: jax.Array | None = None,
) -> tuple[jax.Array, KVCache]:
    """`cached_attention` with queries and keys that are not rotated yet; one token a row by one kernel on a GPU.

    Args:
      turn: how far queries and keys are rotated, and the factor of the queries.
    """
    by, scale = turn
    slots = Slots(cache.keys, cache.values, cache.positions)
    alone = positions.shape[1] == 1 and reach is None and cache.rows is None and cache.scales is None
    if alone and gpu.available() and serves(queries[:, 0], slots):
        sines, cosines = (part[:, 0, 0] for part in by)
        token = Token(queries[:, 0], keys[:, 0], values[:, 0], sines, cosines, positions[:, 0])
        mixed, slots = _token_attention(token, slots, How(scale, window, cap))
        return mixed[:, None], replace(cache, keys=slots.keys, values=slots.values, positions=slots.positions)
    queries, keys = rotate(queries, by) * scale, rotate(keys, by)
    return cached_attention(queries, keys, values, positions, cache, window, cap, reach)


_token_attention = jax.jit(token_attention, static_argnums=2)  # a program of its own: layers alike are traced once


@jax.jit
def keep(keys: jax.Array, values: jax.Array, positions: jax.Array, cache: KVCache) -> KVCache:
    """The cache with (R, T) new tokens in it, for a caller that has attended to them itself."""
    return _write(cache, _stored(keys, values, positions, cache))


def _stored(keys: jax.Array, values: jax.Array, positions: jax.Array, cache: KVCache) -> KVCache:
    """New tokens as the cache keeps them."""
    if cache.scales is None:
        return KVCache(keys.astype(cache.keys.dtype), values.astype(cache.values.dtype), positions)
    (key_codes, key_scales), (value_codes, value_scales) = quantise_heads(keys), quantise_heads(values)
    return KVCache(key_codes, value_codes, positions, key_scales, value_scales)


def quantise_heads(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """(..., K) floats as int8 codes, and (...) float32 scales: the largest value becomes 127 or -127."""
    wide = x.astype(jnp.float32)
    scales = jnp.max(jnp.abs(wide), axis=-1) / 127
    codes = jnp.round(wide / jnp.where(scales > 0, scales, 1)[..., None])
    return codes.astype(jnp.int8), scales


def _attend_kept(
    queries: jax.Array, positions: jax.Array, cache: KVCache, window: int | None, cap: float | None
) -> jax.Array:
    def over_all_slots(queries: jax.Array, positions: jax.Array, cache: KVCache) -> jax.Array:
        return _attend_all(queries, positions, _rows_of(cache), window, cap)

    def over_filled_slots(queries: jax.Array, positions: jax.Array, cache: KVCache) -> jax.Array:
        wide = queries.astype(jnp.float32).reshape(-1, *queries.shape[2:])
        tokens = _rows_of_tokens(cache, positions), positions.reshape(-1)
        mixed = slot_attention(wide, cache.keys, cache.values, cache.scales, tokens, cache.positions, window, cap)
        return mixed.reshape(queries.shape).astype(queries.dtype)

    if not native.available():
        return over_all_slots(queries, positions, cache)
    return jax.lax.platform_dependent(queries, positions, cache, cpu=over_filled_slots, default=over_all_slots)


def _attend_all(
    queries: jax.Array,
    positions: jax.Array,
    cache: KVCache,
    window: int | None,
    cap: float | None,
    reach: jax.Array | None = None,
) -> jax.Array:
    keys, values = cache.keys, cache.values
    if cache.scales is not None:
        keys = widen(keys, cache.key_scales).astype(queries.dtype)
        values = widen(values, cache.value_scales).astype(queries.dtype)
    return attend(queries, keys, values, causal(positions, cache.positions, window, reach), cap)


def _write(cache: KVCache, new: KVCache) -> KVCache:
    """The cache with (R, T) new tokens in it."""
    rows, at = _rows_of_tokens(cache, new.positions), new.positions.reshape(-1)
    whole = replace(cache, rows=None)
    tokens = jax.tree.map(lambda part: part.reshape(-1, *part.shape[2:]), new)
    old, form = jax.tree.flatten(whole)
    arrays = tuple(old), tuple(jax.tree.leaves(tokens)), rows, at
    written = jax.lax.platform_dependent(*arrays, cpu=slot_write, default=slot_scatter)
    return replace(jax.tree.unflatten(form, written), rows=cache.rows)


def _rows_of(cache: KVCache) -> KVCache:
    """What each row of a call reads."""
    if cache.rows is None:
        return cache
    rows = cache.rows
    return jax.tree.map(lambda whole: whole[rows], replace(cache, rows=None))


def _rows_of_tokens(cache: KVCache, positions: jax.Array) -> jax.Array:
    rows = jnp.arange(len(positions), dtype=jnp.int32) if cache.rows is None else cache.rows
    return jnp.repeat(rows, positions.shape[1])
