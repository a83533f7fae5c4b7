"""Prompts read into single rows of the engine's batch, part by part: some text, or one picture in a call of its own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, takewhile

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from gemwright.inference.interleaved import Pixels
from gemwright.inference.rows import read_row
from gemwright.inference.session import Sequences, Session, chunk_length, padded
from gemwright.models.family import Cache, Config, Decoder
from gemwright.models.gemma3_vision import Config as VisionConfig
from gemwright.models.gemma3_vision import Gemma3Vision
from gemwright.models.paligemma import Config as PrefixConfig


def read_part(
    session: Session, weights: Decoder, row: int, left: Sequence[int], pictures: Mapping[int, Pixels], most: int
) -> int:
    """Read what comes next into one row of a session, and nothing into the rows beside it.

    Args:
      weights: those for this row.
      left: ids and marks that the row is to hold after those it holds.
      pictures: by mark.
      most: tokens of text; a picture is read whole.

    Returns:
      how many of `left` were read.
    """
    config, held = session.config, session.tokens[row]
    caches, place = session.state.caches, jnp.int32(row)
    if left[0] < 0:
        assert isinstance(config, VisionConfig)
        assert isinstance(weights, Gemma3Vision)
        new = left[: config.picture_tokens]
        caches = _read_picture(weights, caches, place, pictures[new[0]][None], jnp.int32(len(held)), config)
    else:
        text = list(takewhile(lambda token: token >= 0, left[:most]))
        length = chunk_length(len(text))
        new = text[:length]
        caches = read_row(weights, caches, place, *padded([new], [len(held)], length), config)
    session.state = Sequences(caches, session.state.last)
    jax.block_until_ready(caches)  # so that what goes wrong is laid to this request
    held.extend(new)
    return len(new)


@partial(jax.jit, static_argnames="config", donate_argnames="caches")
def _read_picture(
    weights: Gemma3Vision, caches: Cache, row: jax.Array, pixels: ArrayLike, start: jax.Array, config: VisionConfig
) -> Cache:
    """The caches with one more picture, (1, S, S, 3), in one row."""
    vectors = weights.look(jnp.asarray(pixels), config)
    places = jnp.arange(config.picture_tokens, dtype=jnp.int32)[None]
    placed = tuple(replace(cache, rows=row[None]) for cache in caches)
    nothing, positions = jnp.zeros_like(places), start + places
    _, kept = weights.read(nothing, vectors, places, config, positions=positions, cache=placed)  # pyright: ignore[reportArgumentType]
    assert kept is not None
    return tuple(replace(cache, rows=None) for cache in kept)


def check_pictures(tokens: Sequence[int], pictures: Mapping[int, Pixels], config: Config) -> None:
    """Raises ValueError if a prompt shows pictures that the engine cannot read for a model of these constants."""
    marks = [token for token in tokens if token < 0]
    if not marks:
        return
    if isinstance(config, PrefixConfig):
        raise ValueError(
            "pictures: the tokens of a PaliGemma's prompt all see its last one, and the engine reads that by itself: "
            "use Model.complete, which reads a prompt in one call"
        )
    if not isinstance(config, VisionConfig):
        raise ValueError(f"pictures: expected a model that reads them, found a {config.family}")
    if tokens[-1] < 0:
        raise ValueError("a prompt that ends in a picture: expected at least one token of text behind it")
    for mark, run in groupby(tokens):
        length = len(list(run))
        if mark < 0 and length % config.picture_tokens:
            raise ValueError(f"picture {mark}: expected its mark {config.picture_tokens} times, found {length} times")
    expected = (config.vision.image_size, config.vision.image_size, 3)
    for shape in (pictures[mark].shape for mark in marks):
        if shape != expected:
            raise ValueError(f"expected pixels of {expected}, found {shape}")
