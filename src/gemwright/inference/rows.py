"""One row of a batch on the device. Which row is data, so that all rows share a program."""

from functools import partial

import jax
import jax.numpy as jnp

from gemwright.core.cache import KVCache
from gemwright.inference.session import Sequences, read
from gemwright.models.gemma import Config, Gemma


@partial(jax.jit, static_argnames="config", donate_argnames="state")
def read_row(
    weights: Gemma, state: Sequences, row: jax.Array, tokens: jax.Array, positions: jax.Array, config: Config
) -> Sequences:
    """The state after (1, T) more tokens in one row; computes nothing for the rows beside it."""
    return _put(state, row, read(weights, _take(state, row), tokens, positions, config))


@partial(jax.jit, donate_argnames="state")
def copy_prefix(state: Sequences, source: jax.Array, target: jax.Array, length: jax.Array) -> Sequences:
    """The state whose row `target` holds the first `length` tokens of `source` and nothing else.

    With the row itself as source it cuts the row. What is cut becomes zero: an attention share of 0
    would not hide a value that is not a number.
    """
    row = _take(state, source)
    return _put(state, target, Sequences(tuple(_cut(cache, length) for cache in row.caches), row.last))


def _take(state: Sequences, row: jax.Array) -> Sequences:
    return jax.tree.map(lambda whole: jax.lax.dynamic_slice_in_dim(whole, row, 1), state)


def _put(state: Sequences, row: jax.Array, part: Sequences) -> Sequences:
    return jax.tree.map(lambda whole, new: jax.lax.dynamic_update_slice_in_dim(whole, new, row, 0), state, part)


def _cut(cache: KVCache, length: jax.Array) -> KVCache:
    kept = (cache.positions >= 0) & (cache.positions < length)
    wide = kept[:, :, None, None]
    return KVCache(
        jnp.where(wide, cache.keys, 0), jnp.where(wide, cache.values, 0), jnp.where(kept, cache.positions, -1)
    )
