"""Our side where pictures are read, in every way it can be run. Needs no torch."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.cache import KVCache
from gemwright.models import siglip
from gemwright.models.paligemma import Config, PaliGemma
from gemwright.models.siglip import SigLIP
from tests.parity import ours
from tests.parity.pictures.cases import GREEDY, LENGTHS, PROMPTS, ROWS

Cache = tuple[KVCache, ...]


@partial(jax.jit, static_argnames="config")
def features(weights: SigLIP, pixels: jax.Array, config: siglip.Config) -> jax.Array:
    return weights(pixels, config)


@partial(jax.jit, static_argnames="config")
def run(
    weights: PaliGemma,
    pixels: jax.Array,
    tokens: jax.Array,
    prompts: jax.Array,
    lengths: jax.Array,
    cache: Cache | None,
    config: Config,
) -> tuple[jax.Array, Cache | None]:
    """(B, T) tokens after their pictures -> (B, T, V) logits, and the cache."""
    hidden, cache = weights.read(pixels, tokens, config, prompts=prompts, lengths=lengths, cache=cache)
    return weights.logits(hidden, config), cache


def whole(weights: PaliGemma, config: Config, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """(length of the row, V) a row: prompts and answers of two lengths at once, padded on the right."""
    arrays = map(jnp.asarray, (pixels, tokens, PROMPTS, LENGTHS))
    logits, _ = run(weights, *arrays, None, config)
    return [row[:length] for row, length in zip(np.asarray(logits), LENGTHS, strict=True)]


def prefilled(
    weights: PaliGemma, config: Config, pixels: np.ndarray, tokens: np.ndarray, capacity: int
) -> tuple[list[np.ndarray], Cache]:
    """(prompt, V) a row, and the cache with pictures and prompts in it."""
    cache = ours.new_cache(config.decoder, ROWS, config.vision.patches + capacity)
    prompts = jnp.asarray(PROMPTS)
    arrays = jnp.asarray(pixels), jnp.asarray(tokens[:, : max(PROMPTS)]), prompts, prompts
    logits, cache = run(weights, *arrays, cache, config)
    assert cache is not None
    return [row[:prompt] for row, prompt in zip(np.asarray(logits), PROMPTS, strict=True)], cache


def steps(weights: PaliGemma, config: Config, pixels: np.ndarray, tokens: np.ndarray) -> list[np.ndarray]:
    """(length of the row, V) a row: the prompts, then the answers one token a call; past a row's end it is not kept."""
    logits, cache = prefilled(weights, config, pixels, tokens, max(LENGTHS))
    rows = [[row] for row in logits]
    for step in range(max(LENGTHS) - min(PROMPTS)):
        at = np.minimum(np.array(PROMPTS) + step, np.array(LENGTHS) - 1)[:, None]
        feed = jnp.asarray(np.take_along_axis(tokens, at, 1))
        positions = jnp.asarray(np.where(np.array(PROMPTS)[:, None] + step < np.array(LENGTHS)[:, None], at, -1))
        positions = jnp.where(positions < 0, -1, config.vision.patches + positions)
        out, cache = ours.run(weights.decoder, feed, positions, cache, config.decoder)
        for row, read in zip(rows, np.asarray(out), strict=True):
            row.append(read)
    return [np.concatenate(row)[:length] for row, length in zip(rows, LENGTHS, strict=True)]


def greedy(weights: PaliGemma, config: Config, pixels: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, GREEDY) tokens after the prompts, through the cache, and the logits they were read from."""
    logits, cache = prefilled(weights, config, pixels, tokens, max(PROMPTS) + GREEDY)
    read = [np.stack([row[-1] for row in logits])]
    for step in range(GREEDY - 1):
        positions = jnp.asarray(np.array(PROMPTS)[:, None] + config.vision.patches + step)
        feed = jnp.asarray(read[-1].argmax(-1)[:, None])
        out, cache = ours.run(weights.decoder, feed, positions, cache, config.decoder)
        read.append(np.asarray(out)[:, -1])
    found = np.stack(read, axis=1)
    return found.argmax(-1), found
