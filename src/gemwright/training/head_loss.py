"""The loss of many tokens without all their logits: some tokens at a time, each with its gradient."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gemwright.core.sharding import devices_in_use
from gemwright.data.packing import Soft

_LOGITS = 1 << 26
"""Held at once by a device."""

_TOKENS_ON_CPUS = 512
"""Of a piece at most: the logits of a small vocabulary then stay in the processor's cache."""

_ON_GPUS = 1 << 29
"""There each piece reads and writes the head's whole gradient, which must not take longer than its products."""

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
    soft: Soft | None = None,
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
      soft: (B, T, k), learned in place of `targets`; the second sum stays theirs.
    """
    vocabulary = jax.eval_shape(score, head, fixed, hidden[:, :1]).shape[-1]
    length = targets.shape[1]
    pieces = -(-targets.size * vocabulary // (_held(vocabulary) * devices_in_use()))
    piece = -(-length // min(length, pieces))
    pieces = -(-length // piece)

    def cut(values: Any) -> Any:
        return jax.tree.map(cut_one, values)

    def cut_one(values: jax.Array) -> jax.Array:
        rest = values.shape[2:]
        filled = jnp.pad(values, ((0, 0), (0, pieces * piece - length), *((0, 0),) * len(rest)))
        return jnp.moveaxis(filled.reshape(len(values), pieces, piece, *rest), 1, 0)

    loss = partial(_piece_loss, score, z_loss)
    return _summed(loss, head, fixed, cut(hidden), cut((targets, soft)), cut(counts))


def _held(vocabulary: int) -> int:
    """Logits at once on a device."""
    backend = jax.default_backend()
    if backend == "cpu":
        return min(_LOGITS, _TOKENS_ON_CPUS * vocabulary)
    return _ON_GPUS if backend == "gpu" else _LOGITS


Targets = tuple[jax.Array, Soft | None]


def _piece_loss(
    score: Score, z_loss: float, head: Any, fixed: Any, hidden: jax.Array, targets: Targets, counts: jax.Array
) -> tuple[jax.Array, jax.Array]:
    logits = score(head, fixed, hidden)
    losses, divisors = _losses(logits, targets[0])
    objective = cross_entropy = jnp.sum(losses * counts)
    if targets[1] is not None:
        objective = jnp.sum(_soft_losses(logits, divisors, targets[1]) * counts)
    if z_loss:
        objective = objective + z_loss * jnp.sum(jnp.square(divisors) * counts)
    return objective, cross_entropy


def cross_entropies(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """(..., V) scores and (...) tokens -> (...) nats that each token costs."""
    return _losses(logits, targets)[0]


def _losses(logits: jax.Array, targets: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Cross entropies, and the logarithms of the softmax's divisors."""
    # Summed over a mask: reading single logits would be differentiated into a scatter over all of them.
    chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
    divisors = jax.nn.logsumexp(logits, axis=-1)
    return divisors - jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1), divisors


def _soft_losses(logits: jax.Array, divisors: jax.Array, soft: Soft) -> jax.Array:
    """Cross entropies with the teacher's shares, as far as they go."""
    chosen = jnp.take_along_axis(logits, soft.tokens, axis=-1)
    return jnp.sum(soft.shares * (divisors[..., None] - chosen), axis=-1)


PieceLoss = Callable[[Any, Any, jax.Array, Targets, jax.Array], tuple[jax.Array, jax.Array]]
Piece = tuple[jax.Array, Targets, jax.Array]


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _summed(loss: PieceLoss, head: Any, fixed: Any, hidden: jax.Array, targets: jax.Array, counts: jax.Array) -> Losses:
    objectives, entropies = jax.lax.map(lambda part: loss(head, fixed, *part), (hidden, targets, counts))
    return Losses(jnp.sum(objectives), jnp.sum(entropies))


def _forward(
    loss: PieceLoss, head: Any, fixed: Any, hidden: jax.Array, targets: Targets, counts: jax.Array
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
        losses, (to_head, to_hidden) = with_gradient(
            head, fixed, *jax.tree.map(lambda part: part[0], (hidden, targets, counts))
        )
        to_hidden = to_hidden[None]
    to_head = jax.tree.map(lambda slope, leaf: slope.astype(leaf.dtype), to_head, head)
    return Losses(*losses), (to_head, to_hidden)


def _backward(loss: PieceLoss, kept: Any, gradient: Losses) -> tuple[Any, None, jax.Array, None, None]:
    by = gradient.objective  # the other sum is there to be read
    to_head, to_hidden = jax.tree.map(lambda slope: slope * by.astype(slope.dtype), kept)
    return to_head, None, to_hidden, None, None


_summed.defvjp(_forward, _backward)
