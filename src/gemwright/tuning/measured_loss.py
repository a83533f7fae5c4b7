"""The loss of examples, to compare a model before and after."""

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp

from gemwright.data.example_rows import fill, laid_out, read_size
from gemwright.data.examples import Example
from gemwright.data.packing import Batch
from gemwright.models.family import Config, Decoder
from gemwright.training.step import token_losses

_BLOCK = 64  # tokens: rows are multiples of it, so that few programs are compiled
_LOGITS = 1 << 26  # held at once


def mean_loss(weights: Decoder, config: Config, examples: Sequence[Example]) -> float:
    """Mean cross entropy in nats over the learned tokens of some examples."""
    sizes = [read_size(example) for example in examples]
    length = -(-max(sizes) // _BLOCK) * _BLOCK
    groups = fill(sizes, range(len(sizes)), length)
    rows = max(1, min(len(groups), 8, _LOGITS // (length * config.vocab_size)))
    total, count = 0.0, 0.0
    for first in range(0, len(groups), rows):
        chosen = [[examples[number] for number in group] for group in groups[first : first + rows]]
        loss, counted = _sums(weights, laid_out(chosen, rows, length), config)
        total, count = total + float(loss), count + float(counted)
    return total / count


@partial(jax.jit, static_argnames="config")
def _sums(weights: Decoder, batch: Batch, config: Config) -> tuple[jax.Array, jax.Array]:
    counts = batch.weights.astype(jnp.float32)
    losses = token_losses(weights, batch.inputs, batch.targets, config, batch.positions, batch.segments)
    return jnp.sum(losses * counts), jnp.sum(counts)
