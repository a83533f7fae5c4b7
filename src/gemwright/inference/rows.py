"""Single rows of a batch on the device. Which rows is data, so that all share a program."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gemwright.inference.sampling import Filters, Knobs, choose
from gemwright.inference.session import Sequences
from gemwright.models.family import Cache, Config, Decoder


@partial(jax.jit, static_argnames="config", donate_argnames="caches")
def read_row(
    weights: Decoder, caches: Cache, row: jax.Array, tokens: ArrayLike, positions: ArrayLike, config: Config
) -> Cache:
    """The caches with (1, T) more tokens in one row; computes nothing for the rows beside it."""
    _, caches = _read(weights, caches, row[None], jnp.asarray(tokens), jnp.asarray(positions), config)
    return caches


@partial(jax.jit, static_argnames=("config", "filters"), donate_argnames="caches")
def choose_next(
    weights: Decoder,
    caches: Cache,
    rows: ArrayLike | None,
    tokens: ArrayLike,
    positions: ArrayLike,
    seen: jax.Array | None,
    counts: ArrayLike,
    knobs: Knobs,
    config: Config,
    filters: Filters,
) -> tuple[Cache, jax.Array, jax.Array, jax.Array]:
    """Read tokens, each into its row, and choose the one after each of them.

    Tokens of one row stand beside each other, at positions one after the other: what was chosen last and
    guesses at what follows. The caches keep wrong guesses, which nobody sees.

    Args:
      rows: (N,) of the batch, for tokens (N, 1); None for tokens (B, T) of all rows.
      tokens, positions: (N, 1) or (B, T); -1 marks padding.
      seen: (B, V) booleans, tokens of each row's text before these; needed for the penalty alone.
      counts: (N,) or (B * T,), tokens of the answer up to and with each.
      knobs: likewise.

    Returns:
      the caches; and for each of the N or B * T tokens the hidden state (., D), the token chosen after it, and that
      one's log-probability.
    """
    tokens, positions, rows = jnp.asarray(tokens), jnp.asarray(positions), None if rows is None else jnp.asarray(rows)
    of_tokens = jnp.repeat(jnp.arange(len(tokens)) if rows is None else rows, tokens.shape[1])
    hidden, caches = _read(weights, caches, rows, tokens, positions, config)
    hidden = hidden.reshape(-1, hidden.shape[-1])
    if seen is not None:
        seen = _seen_after(seen, of_tokens, tokens.reshape(-1), positions.reshape(-1) >= 0)
    chosen, scores = choose(weights.logits(hidden, config), seen, jnp.asarray(counts), knobs, filters)
    return caches, hidden, chosen, scores


def _read(
    weights: Decoder, caches: Cache, rows: jax.Array | None, tokens: jax.Array, positions: jax.Array, config: Config
) -> tuple[jax.Array, Cache]:
    placed = tuple(replace(cache, rows=rows) for cache in caches)
    hidden, kept = weights(tokens, config, positions=positions, cache=placed)
    assert kept is not None
    return hidden, tuple(replace(cache, rows=None) for cache in kept)


def _seen_after(seen: jax.Array, rows: jax.Array, tokens: jax.Array, real: jax.Array) -> jax.Array:
    """(N, V): the tokens seen in each one's row up to it."""
    index = jnp.arange(len(tokens))
    before = (rows[:, None] == rows) & (index[:, None] >= index) & real
    return seen[rows].at[index[:, None], tokens].max(before)


@partial(jax.jit, donate_argnames="state")
def copy_prefix(state: Sequences, source: jax.Array, target: jax.Array, length: jax.Array) -> Sequences:
    """The state whose row `target` holds the first `length` tokens of `source` and nothing else.

    With the row itself as source it cuts the row. The session says how far rows can be cut. What is kept of the
    source's last token goes along.
    """

    def put(whole: jax.Array, part: jax.Array) -> jax.Array:
        return jax.lax.dynamic_update_slice_in_dim(whole, part, target, 0)

    def take(whole: jax.Array) -> jax.Array:
        return jax.lax.dynamic_slice_in_dim(whole, source, 1)

    caches = tuple(jax.tree.map(put, cache, jax.tree.map(take, cache).cut(length)) for cache in state.caches)
    return Sequences(caches, put(state.last, take(state.last)))
