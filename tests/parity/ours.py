"""Our side of the comparison: one model run in every way it can be run. Needs no torch."""

from collections.abc import Iterable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.models import family
from gemwright.models.family import Cache, Config, Decoder
from tests.parity.cases import CHUNKS, GREEDY, PREFILL, ROWS, SHORT, TOKENS


@partial(jax.jit, static_argnames="config")
def run(
    weights: Decoder, tokens: jax.Array, positions: jax.Array, cache: Cache | None, config: Config
) -> tuple[jax.Array, Cache | None]:
    """(B, T) tokens at their positions -> (B, T, V) logits, and the cache."""
    hidden, cache = weights(tokens, config, positions=positions, cache=cache)
    return weights.logits(hidden, config), cache


def new_cache(config: Config, rows: int, capacity: int) -> Cache:
    return family.new_cache(config, rows, capacity, jnp.float32)


def whole(weights: Decoder, config: Config, tokens: np.ndarray) -> np.ndarray:
    """(B, T, V): all tokens at once, no cache."""
    positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
    return np.asarray(run(weights, jnp.asarray(tokens), positions, None, config)[0])


def chunked(weights: Decoder, config: Config, tokens: np.ndarray, sizes: Iterable[int]) -> np.ndarray:
    """(B, T, V): through the cache, in chunks of the given sizes."""
    cache, start, logits = new_cache(config, *tokens.shape), 0, []
    for size in sizes:
        positions = jnp.broadcast_to(jnp.arange(start, start + size), (len(tokens), size))
        out, cache = run(weights, jnp.asarray(tokens[:, start : start + size]), positions, cache, config)
        logits.append(np.asarray(out))
        start += size
    return np.concatenate(logits, axis=1)


def steps(weights: Decoder, config: Config, tokens: np.ndarray) -> np.ndarray:
    """(B, T, V): a prompt, then one token a call."""
    return chunked(weights, config, tokens, (PREFILL, *[1] * (TOKENS - PREFILL)))


def chunks(weights: Decoder, config: Config, tokens: np.ndarray) -> np.ndarray:
    return chunked(weights, config, tokens, CHUNKS)


def padded(weights: Decoder, config: Config, tokens: np.ndarray) -> list[np.ndarray]:
    """(T of the row, V) a row: prompts of two lengths padded on the right, then one token a call."""
    lengths = np.array([PREFILL, SHORT])
    index = np.arange(PREFILL)
    positions = np.where(index < lengths[:, None], index, -1)
    filled = np.where(positions >= 0, tokens[:, :PREFILL], 0)
    cache = new_cache(config, ROWS, TOKENS)
    out, cache = run(weights, jnp.asarray(filled), jnp.asarray(positions), cache, config)
    rows = [[np.asarray(out)[row, :length]] for row, length in enumerate(lengths)]
    for step in range(TOKENS - PREFILL):
        at = (lengths + step)[:, None]
        out, cache = run(weights, jnp.take_along_axis(jnp.asarray(tokens), at, 1), jnp.asarray(at), cache, config)
        for row, logits in zip(rows, np.asarray(out), strict=True):
            row.append(logits)
    return [np.concatenate(row) for row in rows]


def greedy(weights: Decoder, config: Config, prompt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(B, GREEDY) tokens continued through the cache, and the (B, GREEDY, V) logits they were read from."""
    length = prompt.shape[1]
    cache = new_cache(config, len(prompt), length + GREEDY)
    feed, positions = jnp.asarray(prompt), jnp.broadcast_to(jnp.arange(length), prompt.shape)
    logits: list[np.ndarray] = []
    for step in range(GREEDY):
        out, cache = run(weights, feed, positions, cache, config)
        logits.append(np.asarray(out)[:, -1])
        feed = jnp.asarray(logits[-1].argmax(-1, keepdims=True))
        positions = jnp.full_like(feed, length + step)
    read = np.stack(logits, axis=1)
    return read.argmax(-1), read


def greedy_without_cache(
    weights: Decoder, config: Config, prompt: np.ndarray, continued: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(B, GREEDY) tokens predicted after the prompt and each beginning of `continued`, and their logits.

    If they equal `continued`, then by induction decoding without a cache would have chosen it.
    """
    tokens = np.concatenate([prompt, continued], axis=1).astype(np.int32)
    read = whole(weights, config, tokens)[:, prompt.shape[1] - 1 : -1]
    return read.argmax(-1), read
