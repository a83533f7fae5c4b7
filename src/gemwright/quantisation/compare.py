"""Two models of one kind on a text: how far the second's guesses are from the first's, and what each makes of it."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.models.family import Config, Decoder

Array = np.ndarray[Any, Any]

_TOKENS = 64  # whose logits are held at once


@dataclass(frozen=True)
class Comparison:
    """Means over the tokens of a text.

    Attributes:
      tokens: that were predicted.
      divergence: Kullback-Leibler, of the second model from the first, in nats a token.
      perplexity, other_perplexity: of the first model and of the second.
      agreement: share of the tokens at which both find the same token likeliest.
    """

    tokens: int
    divergence: float
    perplexity: float
    other_perplexity: float
    agreement: float

    @property
    def rise(self) -> float:
        """Of the perplexity, relative: 0.05 is five percent."""
        return self.other_perplexity / self.perplexity - 1

    def to_json(self) -> dict[str, float]:
        return {**asdict(self), "perplexity_rise": self.rise}


def compare(
    first: Decoder, second: Decoder, config: Config, rows: Array, progress: Callable[[int, int], None] | None = None
) -> Comparison:
    """Let two models read the same text.

    Args:
      rows: (rows, tokens) of ids; each row is read by itself, its first token is not predicted.
      progress: told the rows done and all.
    """
    sums = np.zeros(4)
    for index, row in enumerate(rows):
        tokens = jnp.asarray(row[None])
        hidden, other = (hidden_states(model, tokens, config) for model in (first, second))
        sums += distances(first, hidden, second, other, tokens, config)
        if progress:
            progress(index + 1, len(rows))
    divergence, loss, other_loss, agreement = (float(total) / (rows.size - len(rows)) for total in sums)
    return Comparison(rows.size - len(rows), divergence, math.exp(loss), math.exp(other_loss), agreement)


@partial(jax.jit, static_argnames="config")
def hidden_states(model: Decoder, tokens: jax.Array, config: Config) -> jax.Array:
    """(1, T, D) for (1, T) tokens."""
    return model(tokens, config)[0]


def distances(
    first: Decoder, hidden: jax.Array, second: Decoder, other: jax.Array, tokens: jax.Array, config: Config
) -> Array:
    """(4,) sums over the tokens of a row: divergence, both losses in nats, agreements."""
    return np.asarray(_distances(first, hidden, second, other, tokens, config), np.float64).sum(axis=0)


@partial(jax.jit, static_argnames="config")
def _distances(
    first: Decoder, hidden: jax.Array, second: Decoder, other: jax.Array, tokens: jax.Array, config: Config
) -> jax.Array:
    def of_token(part: tuple[jax.Array, jax.Array, jax.Array]) -> jax.Array:
        mine = jax.nn.log_softmax(first.logits(part[0], config))
        theirs = jax.nn.log_softmax(second.logits(part[1], config))
        divergence = jnp.sum(jnp.exp(mine) * (mine - theirs), axis=-1)
        losses = [-jnp.take_along_axis(scores, part[2][:, None], axis=-1)[:, 0] for scores in (mine, theirs)]
        agree = (mine.argmax(axis=-1) == theirs.argmax(axis=-1)).astype(jnp.float32)
        return jnp.stack([divergence, *losses, agree], axis=-1)

    count = tokens.shape[1] - 1
    parts = -(-count // _TOKENS)

    def cut(values: jax.Array) -> jax.Array:
        padded = jnp.pad(values, ((0, parts * _TOKENS - count), *((0, 0),) * (values.ndim - 1)))
        return padded.reshape(parts, _TOKENS, *values.shape[1:])

    found = jax.lax.map(of_token, (cut(hidden[0, :-1]), cut(other[0, :-1]), cut(tokens[0, 1:])))
    return found.reshape(-1, 4)[:count]
