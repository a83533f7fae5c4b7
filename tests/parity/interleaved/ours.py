"""Our side where pictures stand between texts, in every way it can be run. Needs no torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.cache import KVCache
from gemwright.models.gemma3_vision import Config, Gemma3Vision
from gemwright.models.seeing import new_cache
from tests.parity.interleaved.cases import ANSWER, GREEDY, ROWS, Family, places_of, positions_of

Cache = tuple[KVCache, ...]


@partial(jax.jit, static_argnames="config")
def features(weights: Gemma3Vision, pixels: jax.Array, config: Config) -> jax.Array:
    return weights.look(pixels, config)


@partial(jax.jit, static_argnames="config")
def run(
    weights: Gemma3Vision,
    tokens: jax.Array,
    pictures: jax.Array,
    places: jax.Array,
    positions: jax.Array,
    cache: Cache | None,
    config: Config,
) -> tuple[jax.Array, Cache | None]:
    """(B, T) tokens with pictures among them -> (B, T, V) logits, and the cache."""
    hidden, cache = weights.read(tokens, pictures, places, config, positions=positions, cache=cache)
    return weights.logits(hidden, config), cache


@partial(jax.jit, static_argnames="config")
def step(
    weights: Gemma3Vision, tokens: jax.Array, positions: jax.Array, cache: Cache, config: Config
) -> tuple[jax.Array, Cache | None]:
    """(B, 1) tokens of text -> (B, 1, V) logits, and the cache."""
    hidden, kept = weights(tokens, config, positions=positions, cache=cache)
    return weights.logits(hidden, config), kept


def _rows(family: Family, logits: np.ndarray) -> list[np.ndarray]:
    return [row[:length] for row, length in zip(logits, family.lengths, strict=True)]


def whole(weights: Gemma3Vision, family: Family, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """(length of the row, V) a row: all rows at once, padded on the right."""
    pictures = features(weights, jnp.asarray(pixels), family.config)
    given = map(jnp.asarray, (places_of(family), positions_of(family)))
    logits, _ = run(weights, jnp.asarray(tokens), pictures, *given, None, family.config)
    return _rows(family, np.asarray(logits))


def alone(weights: Gemma3Vision, family: Family, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """`whole`, each row by itself and without padding."""
    pictures, found = features(weights, jnp.asarray(pixels), family.config), []
    for row, length in enumerate(family.lengths):
        given = (array[row : row + 1, :length] for array in (places_of(family), positions_of(family)))
        logits, _ = run(weights, jnp.asarray(tokens[row : row + 1, :length]), pictures, *map(jnp.asarray, given), None, family.config)  # fmt: skip  # noqa: E501
        found.append(np.asarray(logits)[0])
    return found


def prefilled(
    weights: Gemma3Vision, family: Family, pixels: np.ndarray, tokens: np.ndarray, answer: int, room: int
) -> tuple[list[list[np.ndarray]], Cache]:
    """Logits of each row but for its answer, all at once into a cache, and the cache."""
    pictures, size = features(weights, jnp.asarray(pixels), family.config), max(family.lengths) + room
    cache: Cache | None = new_cache(family.config, ROWS, size, jnp.dtype(jnp.float32))
    prompts = np.array(family.lengths)[:, None] - answer
    positions = np.where(np.arange(tokens.shape[1]) < prompts, positions_of(family), -1)
    given = map(jnp.asarray, (places_of(family), positions))
    logits, cache = run(weights, jnp.asarray(tokens), pictures, *given, cache, family.config)
    assert cache is not None
    return [[row[: int(prompt)]] for row, prompt in zip(np.asarray(logits), prompts[:, 0], strict=True)], cache


def steps(weights: Gemma3Vision, family: Family, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """(length of the row, V) a row: prompts at once into the cache, then the answers one token a call."""
    rows, cache = prefilled(weights, family, pixels, tokens, ANSWER, 0)
    for index in range(ANSWER):
        positions = np.array(family.lengths)[:, None] - ANSWER + index
        feed = jnp.asarray(np.take_along_axis(tokens, positions, 1))
        logits, kept = step(weights, feed, jnp.asarray(positions), cache, family.config)
        assert kept is not None
        cache = kept
        for row, read in zip(rows, np.asarray(logits), strict=True):
            row.append(read)
    return [np.concatenate(row) for row in rows]


def greedy(
    weights: Gemma3Vision, family: Family, pixels: np.ndarray, tokens: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(ROWS, GREEDY) tokens after the rows, through the cache, and the logits they were read from."""
    rows, cache = prefilled(weights, family, pixels, tokens, 0, GREEDY)
    read = [np.stack([row[0][-1] for row in rows])]
    for index in range(GREEDY - 1):
        positions = jnp.asarray(np.array(family.lengths)[:, None] + index)
        logits, kept = step(weights, jnp.asarray(read[-1].argmax(-1)[:, None]), positions, cache, family.config)
        assert kept is not None
        cache = kept
        read.append(np.asarray(logits)[:, -1])
    found = np.stack(read, axis=1)
    return found.argmax(-1), found
