"""The loss of many tokens without all their logits: some tokens at a time, each with its gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

_LOGITS = 1 << 26
"""Held at once."""


def summed_loss(
    score: Callable[[Any, jax.Array], jax.Array], head: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array
) -> jax.Array:
    """The sum over tokens of `counts` times the cross entropy, in nats.

    The gradient flows to `hidden` alone, and is computed with the loss: no logits are kept, none computed twice.

    Args:
      score: (head, (n, D) hidden states) -> (n, V) float32.
      head: what `score` computes with; not trained.
      hidden: (B, T, D).
      targets: (B, T) tokens.
      counts: (B, T) float32.
    """
    vocabulary = jax.eval_shape(score, head, hidden[0]).shape[-1]
    piece = min(targets.size, max(1, _LOGITS // vocabulary))
    pieces = -(-targets.size // piece)

    def cut(values: jax.Array) -> jax.Array:
        flat = values.reshape(targets.size, *values.shape[2:])
        filled = jnp.pad(flat, ((0, pieces * piece - targets.size), *((0, 0),) * (flat.ndim - 1)))
        return filled.reshape(pieces, piece, *flat.shape[1:])

    return _summed(partial(_piece_loss, score), head, cut(hidden), cut(targets), cut(counts))


def _piece_loss(
    score: Callable[[Any, jax.Array], jax.Array], head: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array
) -> jax.Array:
    return jnp.sum(cross_entropies(score(head, hidden), targets) * counts)


def cross_entropies(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """(..., V) scores and (...) tokens -> (...) nats that each token costs."""
    # Summed over a mask: reading single logits would be differentiated into a scatter over all of them.
    chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1)


PieceLoss = Callable[[Any, jax.Array, jax.Array, jax.Array], jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(loss: PieceLoss, head: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array) -> jax.Array:
    return jnp.sum(jax.lax.map(lambda part: loss(head, *part), (hidden, targets, counts)))


def _forward(
    loss: PieceLoss, head: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    def with_gradient(part: tuple[jax.Array, jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return jax.value_and_grad(lambda hidden: loss(head, hidden, *part[1:]))(part[0])

    losses, gradient = jax.lax.map(with_gradient, (hidden, targets, counts))
    return jnp.sum(losses), gradient


def _backward(loss: PieceLoss, kept: jax.Array, gradient: jax.Array) -> tuple[None, jax.Array, None, None]:
    return None, kept * gradient.astype(kept.dtype), None, None


_summed.defvjp(_forward, _backward)
