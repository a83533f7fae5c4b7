"""Log-probabilities of tokens under a model, without all logits at once."""

from collections.abc import Callable
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

    @jax.checkpoint
    def piece(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        return token_log_probabilities(weights.logits(part[0], config), part[1])

    return _by_pieces(piece, (hidden, targets), config.vocab_size)


def token_divergences(
    weights: Decoder,
    reference: Decoder,
    config: Config,
    inputs: jax.Array,
    positions: jax.Array | None = None,
    segments: jax.Array | None = None,
) -> jax.Array:
    """(B, T) KL of the next token's probabilities from those of a reference, in nats: over all tokens, exact."""
    ours, theirs = (model(inputs, config, positions=positions, segments=segments)[0] for model in (weights, reference))

    def piece(part: tuple[jax.Array, jax.Array]) -> jax.Array:
        now = jax.nn.log_softmax(weights.logits(part[0], config))
        return jnp.sum(jnp.exp(now) * (now - jax.nn.log_softmax(reference.logits(part[1], config))), axis=-1)

    return _by_pieces(piece, (ours, theirs), config.vocab_size)


def _by_pieces(piece: Callable[[Any], jax.Array], parts: tuple[jax.Array, jax.Array], vocabulary: int) -> jax.Array:
    """Some places of all rows at a time."""
    rows, length = parts[0].shape[:2]
    held = max(1, min(length, _LOGITS // (rows * vocabulary)))
    pieces = -(-length // held)
    if pieces == 1:
        return piece(parts)

    def cut(values: jax.Array) -> jax.Array:
        filled = jnp.pad(values, ((0, 0), (0, pieces * held - length), *((0, 0),) * (values.ndim - 2)))
        return jnp.moveaxis(filled.reshape(rows, pieces, held, *values.shape[2:]), 1, 0)

    found = jax.lax.map(piece, jax.tree.map(cut, parts))
    return jnp.moveaxis(found, 0, 1).reshape(rows, -1)[:, :length]


def segment_sums(values: jax.Array, segments: jax.Array, count: int) -> jax.Array:
    """(B, T) values -> (B, count) sums over the tokens of segments 1 to `count`."""

    def one(row: jax.Array, places: jax.Array) -> jax.Array:
        return jnp.zeros(count + 1, row.dtype).at[places].add(row)

    sums: Any = jax.vmap(one)(values, segments)
    return sums[:, 1:]
