"""The loss of many tokens without all their logits: some tokens at a time, each with its gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gemwright.core.sharding import devices_in_use

_LOGITS = 1 << 26
"""Held at once by a device."""

Score = Callable[[Any, Any, jax.Array], jax.Array]


class Losses(NamedTuple):
    """Sums over tokens.

    Attributes:
      objective: what is made small: cross entropies and what `z_loss` adds.
      cross_entropy: in nats.
    """

    objective: jax.Array
    cross_entropy: jax.Array


def summed_loss(
    score: Score,
    head: Any,
    fixed: Any,
    hidden: jax.Array,
    targets: jax.Array,
    counts: jax.Array,
    *,
    z_loss: float = 0.0,
) -> Losses:
    """The sums over tokens of `counts` times their losses.

    Gradients are computed with the loss: no logits are kept, none computed twice. Tokens are taken from all rows at
    once, so that rows stay on the devices where they are.

    Args:
      score: (head, fixed, (B, t, D) hidden states) -> (B, t, V) float32; closes over no array.
      head: what `score` computes with and is trained; maybe nothing.
      fixed: what else it computes with.
      hidden: (B, T, D).
      targets: (B, T) tokens.
      counts: (B, T) float32.
      z_loss: times the square of the logarithm of the softmax's divisor.
    """
    vocabulary = jax.eval_shape(score, head, fixed, hidden[:, :1]).shape[-1]
    length = targets.shape[1]
    pieces = -(-targets.size * vocabulary // (_LOGITS * devices_in_use()))
    piece = -(-length // min(length, pieces))
    pieces = -(-length // piece)

    def cut(values: jax.Array) -> jax.Array:
        rest = values.shape[2:]
        filled = jnp.pad(values, ((0, 0), (0, pieces * piece - length), *((0, 0),) * len(rest)))
        return jnp.moveaxis(filled.reshape(len(values), pieces, piece, *rest), 1, 0)

    loss = partial(_piece_loss, score, z_loss)
    return _summed(loss, head, fixed, cut(hidden), cut(targets), cut(counts))


def _piece_loss(
    score: Score, z_loss: float, head: Any, fixed: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    losses, divisors = _losses(score(head, fixed, hidden), targets)
    cross_entropy = jnp.sum(losses * counts)
    return (cross_entropy + z_loss * jnp.sum(jnp.square(divisors) * counts) if z_loss else cross_entropy), cross_entropy


def cross_entropies(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """(..., V) scores and (...) tokens -> (...) nats that each token costs."""
    return _losses(logits, targets)[0]


def _losses(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross entropies, and the logarithms of the softmax's divisors."""
    # Summed over a mask: reading single logits would be differentiated into a scatter over all of them.
    chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
    divisors = jax.nn.logsumexp(logits, axis=-1)
    return divisors - jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1), divisors


PieceLoss = Callable[[Any, Any, jax.Array, jax.Array, jax.Array], tuple[jax.Array, jax.Array]]
Piece = tuple[jax.Array, jax.Array, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(loss: PieceLoss, head: Any, fixed: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array) -> Losses:
    objectives, entropies = jax.lax.map(lambda part: loss(head, fixed, *part), (hidden, targets, counts))
    return Losses(jnp.sum(objectives), jnp.sum(entropies))


def _forward(
    loss: PieceLoss, head: Any, fixed: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array
) -> tuple[Losses, Any]:
    with_gradient = jax.value_and_grad(loss, argnums=(0, 2), has_aux=True)

    def add(sums: Any, part: Piece) -> tuple[Any, jax.Array]:
        losses, (to_head, to_hidden) = with_gradient(head, fixed, *part)
        return jax.tree.map(lambda total, more: total + more.astype(total.dtype), sums, (losses, to_head)), to_hidden

    zero = jnp.zeros((), jnp.float32)
    begun = ((zero, zero), jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.float32), head))
    if len(hidden) > 1:
        (losses, to_head), to_hidden = jax.lax.scan(add, begun, (hidden, targets, counts))
    else:
        losses, (to_head, to_hidden) = with_gradient(head, fixed, hidden[0], targets[0], counts[0])
        to_hidden = to_hidden[None]
    to_head = jax.tree.map(lambda slope, leaf: slope.astype(leaf.dtype), to_head, head)
    return Losses(*losses), (to_head, to_hidden)


def _backward(loss: PieceLoss, kept: Any, gradient: Losses) -> tuple[Any, None, jax.Array, None, None]:
    by = gradient.objective  # the other sum is there to be read
    to_head, to_hidden = jax.tree.map(lambda slope: slope * by.astype(slope.dtype), kept)
    return to_head, None, to_hidden, None, None


_summed.defvjp(_forward, _backward)
