"""What models say of pairs: rewards, and log-probabilities of whole answers.

N pairs in all, or P in each of B rows; S sides of each: chosen, rejected, maybe one mismatched.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.data.example_rows import fill
from gemwright.data.pair_rows import PairBatch, pair_layout, pair_size
from gemwright.data.pairs import Pair
from gemwright.models.family import Config, Decoder
from gemwright.models.reward import RewardModel
from gemwright.tuning.answer_scores import segment_sums, token_divergences, token_scores

_BLOCK, _ROWS = 64, 8
Array = np.ndarray[Any, Any]


def pair_rewards(weights: RewardModel, batch: PairBatch, config: Config) -> jax.Array:
    """(B, P, S) rewards, read at the last learned token of each side."""
    ends = batch.ends.reshape(len(batch.ends), -1)
    found = weights(batch.inputs, config, ends, positions=batch.positions, segments=batch.segments)
    return found.reshape(batch.ends.shape)


def answer_sums(weights: Decoder, batch: PairBatch, config: Config) -> jax.Array:
    """(B, P, S) log-probabilities of the learned tokens of each side, summed."""
    found = token_scores(weights, config, batch.inputs, batch.targets, batch.positions, batch.segments)
    return _by_side(batch, found * batch.weights.astype(jnp.float32))


def answer_sizes(batch: PairBatch) -> jax.Array:
    """(B, P, S) learned tokens of each side."""
    return _by_side(batch, batch.weights.astype(jnp.float32))


def _by_side(batch: PairBatch, values: jax.Array) -> jax.Array:
    _, pairs, sides = batch.ends.shape
    return segment_sums(values, batch.segments, pairs * sides).reshape(batch.ends.shape)


# ------------------------------------------------------------------------------------------ of all pairs


def rewards_of_pairs(weights: RewardModel, config: Config, pairs: Sequence[Pair]) -> Array:
    """(N, S) rewards."""
    return _of_all(partial(_rewards, weights, config=config), pairs)


def sums_of_pairs(weights: Decoder, config: Config, pairs: Sequence[Pair]) -> Array:
    """(N, S) log-probabilities of answers: what a reference says is asked once, and kept."""
    return _of_all(partial(_sums, weights, config=config), pairs)


def divergences_of_pairs(weights: Decoder, reference: Decoder, config: Config, pairs: Sequence[Pair]) -> Array:
    """(N, S) mean KL from a reference at the learned tokens of each side, in nats a token."""
    return _of_all(partial(_divergences, weights, reference, config=config), pairs)


def _of_all(read: Callable[[PairBatch], jax.Array], pairs: Sequence[Pair]) -> Array:
    sizes = [pair_size(pair) for pair in pairs]
    length = -(-max(sizes) // _BLOCK) * _BLOCK
    groups, lay = fill(sizes, range(len(sizes)), length), pair_layout(pairs).lay
    found = np.zeros((len(pairs), len(pairs[0].sides)), np.float32)
    for first in range(0, len(groups), _ROWS):
        chosen = [[pairs[number] for number in group] for group in groups[first : first + _ROWS]]
        batch = lay(chosen, _ROWS, length)
        there = np.asarray(batch.pairs) == 1
        found[np.asarray(batch.numbers)[there]] = np.asarray(read(batch))[there]
    return found


@partial(jax.jit, static_argnames="config")
def _divergences(weights: Decoder, reference: Decoder, batch: PairBatch, config: Config) -> jax.Array:
    found = token_divergences(weights, reference, config, batch.inputs, batch.positions, batch.segments)
    return _by_side(batch, found * batch.weights.astype(jnp.float32)) / jnp.maximum(answer_sizes(batch), 1.0)


_rewards = jax.jit(pair_rewards, static_argnames="config")
_sums = jax.jit(answer_sums, static_argnames="config")
