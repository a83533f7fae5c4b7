"""Log-probabilities of tokens under a model, without all logits at once."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.models.family import Config, Decoder
from gemwright.tuning.losses import token_log_probabilities

_LOGITS = 1 << 26
"""Held at once."""


def token_scores(
    weights: Decoder,
    config: Config,
    inputs: jax.Array,
    targets: jax.Array,
    positions: jax.Array | None = None,
    segments: jax.Array | None = None,
) -> jax.Array:
    """(B, T) log-probability in nats of each target after the inputs up to its own; can be differentiated."""
    hidden, _ = weights(inputs, config, positions=positions, segments=segments)
    return scores_of(weights, config, hidden, targets)


def scores_of(weights: Decoder, config: Config, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    """`token_scores` from (B, T, D) hidden states. For the gradient logits are computed again, some rows at a time."""
    rows, length = targets.shape
    held = max(1, min(length, _LOGITS // (rows * config.vocab_size)))
    pieces = -(-length // held)

    @partial(jax.checkpoint)
    def piece(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        return token_log_probabilities(weights.logits(part[0], config), part[1])

    if pieces == 1:
        return piece((hidden, targets))

    def cut(values: jax.Array) -> jax.Array:
        filled = jnp.pad(values, ((0, 0), (0, pieces * held - length), *((0, 0),) * (values.ndim - 2)))
        return jnp.moveaxis(filled.reshape(rows, pieces, held, *values.shape[2:]), 1, 0)

    found = jax.lax.map(piece, (cut(hidden), cut(targets)))
    return jnp.moveaxis(found, 0, 1).reshape(rows, -1)[:, :length]


def segment_sums(values: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """(B, T) values -> (B, count) sums over the tokens of segments 1 to `count`."""

    def one(row: jax.Array, places: jax.Array) -> jax.Array:
        return jnp.zeros(count + 1, row.dtype).at[places].add(row)

    sums: Any = jax.vmap(one)(values, segments)
    return sums[:, 1:]
