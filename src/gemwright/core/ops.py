"""The operations that model families share. Norms, softmax and rotations are computed in float32.

Letters: B batch, T tokens of this call, S cached or attended tokens, H query heads, G key/value
heads, K head size, D embedding width.

What every layer calls is a program of its own, so that it is traced once and not in each layer.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

MASKED = -2.3819763e38  # the value of the reference implementations: finite in float32 and bfloat16


class Blocks(NamedTuple):
    """How attention is cut into blocks of queries.

    Attributes:
      smallest: queries of a block in order; smaller ones cost more than they spare.
      most: blocks in order at most.
      scores: attention scores held at once; longer texts are taken in blocks one after the other.
    """

    smallest: int
    most: int
    scores: int


_ON_CPU = Blocks(smallest=64, most=8, scores=1 << 22)
_ON_ACCELERATORS = Blocks(smallest=512, most=8, scores=1 << 28)  # each shape is compiled, and must fill the device


def _blocks() -> Blocks:
    return _ON_CPU if jax.default_backend() == "cpu" else _ON_ACCELERATORS


@partial(jax.jit, static_argnames="epsilon")
def rms_norm(x: jax.Array, weight: jax.Array, epsilon: float) -> jax.Array:
    """Root mean square norm times (1 + weight), over the last dimension; cast back at the end."""
    wide = x.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    return (wide * (1.0 + weight.astype(jnp.float32))).astype(x.dtype)


class Normed(NamedTuple):
    """What `rms_norm` makes of `x`, not made yet: products with it may do so by themselves, in one kernel."""

    x: jax.Array
    weight: jax.Array
    epsilon: float

    def value(self) -> jax.Array:
        return rms_norm(*self)


@partial(jax.jit, static_argnames="epsilon")
def layer_norm(x: jax.Array, scale: jax.Array, bias: jax.Array, epsilon: float) -> jax.Array:
    """Mean taken off, divided by the standard deviation, times `scale` plus `bias`, over the last dimension."""
    wide = x.astype(jnp.float32)
    wide = wide - jnp.mean(wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    return (wide * scale.astype(jnp.float32) + bias.astype(jnp.float32)).astype(x.dtype)


def soft_cap(x: jax.Array, cap: float | None) -> jax.Array:
    """Bend values smoothly into (-cap, cap)."""
    return x if cap is None else jnp.tanh(x / cap) * cap


Rotation = tuple[jax.Array, jax.Array]
"""Sines and cosines, (B, T, 1, K / 2): computed once for all layers."""


def rotation(positions: jax.Array, size: int, base: float) -> Rotation:
    """How far heads of `size` are turned at each of the (B, T) positions.

    The first half of a head is paired with its second half; pair i turns by position / base^(2i/size).
    """
    half = size // 2
    frequencies = base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies
    return _sines_and_cosines(angles)


def _sines_and_cosines(angles: jax.Array) -> Rotation:
    """Kept as they are: XLA would fuse them into what follows, and compute them for every head, half and derivative."""
    if jax.default_backend() != "cpu":
        return jax.lax.optimization_barrier((jnp.sin(angles), jnp.cos(angles)))
    # There barriers go before the fusions come; a loop stays.
    sin, cos = jax.lax.map(lambda turn: jax.lax.cond(turn == 0, jnp.sin, jnp.cos, angles), jnp.arange(2))
    return sin, cos


@jax.jit
def rotate(x: jax.Array, by: Rotation) -> jax.Array:
    """Rotary position embedding of (B, T, heads, K)."""
    sin, cos = by
    first, second = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([first * cos - second * sin, second * cos + first * sin], axis=-1).astype(x.dtype)


def attend(queries: jax.Array, keys: jax.Array, values: jax.Array, visible: jax.Array, cap: float | None) -> jax.Array:
    """Grouped-query attention: each of G key heads serves H/G query heads.

    Args:
      queries: (B, T, H, K), already scaled.
      keys: (B, S, G, K).
      values: (B, S, G, K).
      visible: (B, T, S), true where a query may look.
      cap: soft cap of the scores, applied before masking.

    Returns:
      (B, T, H, K), in the dtype of `queries`.
    """
    b, t, h, k = queries.shape
    block = max(1, _blocks().scores // (b * h * keys.shape[1]))
    if t <= block:
        return _attend_block(queries, keys, values, visible, cap)
    blocks = -(-t // block)
    padding = (0, blocks * block - t)
    queries = jnp.pad(queries, ((0, 0), padding, (0, 0), (0, 0))).reshape(b, blocks, block, h, k)
    visible = jnp.pad(visible, ((0, 0), padding, (0, 0))).reshape(b, blocks, block, -1)
    mixed = jax.lax.map(
        lambda part: _attend_block(part[0], keys, values, part[1], cap),
        (queries.swapaxes(0, 1), visible.swapaxes(0, 1)),
    )
    return mixed.swapaxes(0, 1).reshape(b, blocks * block, h, k)[:, :t]


def attend_in_order(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    visible: jax.Array,
    cap: float | None,
    window: int | None = None,
) -> jax.Array:
    """`attend` among the tokens of one call, none of which sees one that stands after it.

    Blocks of queries are spared the keys after them, up to 7/16 of the work and of the memory, and those that stand
    a window before them. Arguments and result are those of `attend`, with S = T.

    Args:
      window: how many tokens a query sees at most, itself included: none that stands further back is `visible`.
    """
    length = queries.shape[1]
    blocks = _blocks()
    block = max(blocks.smallest, -(-length // blocks.most))
    parts: list[jax.Array] = []
    for start in range(0, length, block):
        end, first = min(start + block, length), 0 if window is None else max(0, start + 1 - window)
        seen = visible[:, start:end, first:end]
        parts.append(attend(queries[:, start:end], keys[:, first:end], values[:, first:end], seen, cap))
    return jnp.concatenate(parts, axis=1)


def _attend_block(
    queries: jax.Array, keys: jax.Array, values: jax.Array, visible: jax.Array, cap: float | None
) -> jax.Array:
    b, t, h, k = queries.shape
    groups = keys.shape[2]
    # The heads of a group share their keys, so they join the tokens as rows of one product.
    rows = queries.reshape(b, t, groups, h // groups, k).transpose(0, 2, 3, 1, 4).reshape(b, groups, -1, k)
    scores = jnp.einsum("bgrk,bsgk->bgrs", rows, keys, preferred_element_type=jnp.float32)
    scores = soft_cap(scores, cap).reshape(b, groups, h // groups, t, -1)
    scores = jnp.where(visible[:, None, None], scores, MASKED)
    shares = jax.nn.softmax(scores, axis=-1).astype(values.dtype).reshape(b, groups, (h // groups) * t, -1)
    mixed = jnp.einsum("bgrs,bsgk->bgrk", shares, values, preferred_element_type=jnp.float32)
    mixed = mixed.reshape(b, groups, h // groups, t, k).transpose(0, 3, 1, 2, 4)
    return mixed.reshape(b, t, h, k).astype(queries.dtype)


def causal(
    query_positions: jax.Array, key_positions: jax.Array, window: int | None, reach: jax.Array | None = None
) -> jax.Array:
    """Which keys a query sees: none of its future, and at most the last `window` positions.

    Args:
      query_positions: (B, T).
      key_positions: (B, S); a negative position is an empty slot or padding, seen by nobody.
      window: number of keys seen, the query's own included; None for all.
      reach: (B, T) the last position that each query sees, where that is not its own.

    Returns:
      (B, T, S) of booleans.
    """
    query, key = query_positions[:, :, None], key_positions[:, None, :]
    visible = (key >= 0) & (key <= (query if reach is None else reach[:, :, None]))
    return visible if window is None else visible & (key > query - window)
