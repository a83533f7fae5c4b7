"""Prompts read into single rows of the engine's batch, part by part: some text, or pictures in a call of their own."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import groupby, takewhile

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gemwright.inference.interleaved import Pixels, Row, mark_for
from gemwright.inference.pictures import compiled_length
from gemwright.inference.rows import read_row
from gemwright.inference.session import Sequences, Session, chunk_length, padded
from gemwright.models.family import Config, Decoder
from gemwright.models.seeing import DecodersConstants, ReadsText


def read_part(
    session: Session, weights: Decoder, row: int, left: Sequence[int], pictures: Mapping[int, Pixels], most: int
) -> int:
    """Read what comes next into one row of a session, and nothing into the rows beside it.

    Args:
      weights: those for this row.
      left: ids and marks that the row is to hold after those it holds.
      pictures: by mark.
      most: tokens of text; a picture is read whole, and so is a prompt that must be.

    Returns:
      how many of `left` were read.
    """
    config, held = session.config, session.tokens[row]
    state, place = session.state, jnp.int32(row)
    if left[0] < 0:
        assert isinstance(config, DecodersConstants)
        assert isinstance(weights, ReadsText)
        new = left if config.whole_prompts else left[: config.picture_tokens]
        text = [token for token in new if token >= 0]
        marks = new[: len(new) - len(text) : config.picture_tokens]
        tokens = np.zeros((1, compiled_length(len(text)) if text else 0), np.int32)
        tokens[0, : len(text)] = text
        arrays = np.stack([pictures[mark] for mark in marks]), tokens, jnp.int32(len(held)), jnp.int32(len(text))
        session.state = _read_pictures(weights, state, place, *arrays, config)
    else:
        text = list(takewhile(lambda token: token >= 0, left[:most]))
        length = chunk_length(len(text))
        new = text[:length]
        caches = read_row(weights, state.caches, place, *padded([new], [len(held)], length), config)
        session.state = Sequences(caches, state.last)
    jax.block_until_ready(session.state.caches)  # so that what goes wrong is laid to this request
    held.extend(new)
    return len(new)


@partial(jax.jit, static_argnames="config", donate_argnames="state")
def _read_pictures(
    weights: ReadsText,
    state: Sequences,
    row: jax.Array,
    pixels: ArrayLike,
    tokens: ArrayLike,
    start: jax.Array,
    length: jax.Array,
    config: Config,
) -> Sequences:
    """The state with (P, S, S, 3) more pictures in one row, and the text that is read with them."""
    placed = tuple(replace(cache, rows=row[None]) for cache in state.caches)
    last, kept = weights.read_part(
        jnp.asarray(pixels),
        jnp.asarray(tokens),
        config,
        start=start,
        length=length,
        cache=placed,  # pyright: ignore[reportArgumentType]
    )
    return Sequences(tuple(replace(cache, rows=None) for cache in kept), state.last.at[row].set(last[0]))


def whole_length(tokens: Sequence[int], config: Config) -> int:
    """How many tokens of a prompt must be read in one call: all, or none."""
    shows = len(tokens) > 0 and tokens[0] < 0
    return len(tokens) if shows and isinstance(config, DecodersConstants) and config.whole_prompts else 0


def bound(row: Row, config: Config) -> Row:
    """The row with marks that stand for all that their tokens depend on: in a whole prompt for all of it.

    So rows that are alike so far have read the same, and can lend it to each other.
    """
    if not whole_length(row.tokens, config):
        return row
    own = {mark: mark_for(repr([int(mark), *map(int, row.tokens)]).encode()) for mark in row.pictures}
    pictures = {own[mark]: pixels for mark, pixels in row.pictures.items()}
    return Row([own.get(token, token) for token in row.tokens], pictures)


def check_pictures(tokens: Sequence[int], pictures: Mapping[int, Pixels], config: Config) -> None:
    """Raises ValueError if a prompt shows pictures that the engine cannot read for a model of these constants."""
    marks = [token for token in tokens if token < 0]
    if not marks:
        return
    if not isinstance(config, DecodersConstants):
        raise ValueError(f"pictures: expected a model that reads them, found a {config.family}")
    if tokens[-1] < 0:
        raise ValueError("a prompt that ends in a picture: expected at least one token of text behind it")
    if config.whole_prompts and list(tokens[: len(marks)]) != marks:
        raise ValueError(f"text before a picture: a {config.family} reads its pictures in front of one prompt")
    for mark, run in groupby(tokens):
        length = len(list(run))
        if mark < 0 and length % config.picture_tokens:
            raise ValueError(f"picture {mark}: expected its mark {config.picture_tokens} times, found {length} times")
    expected = (config.vision.image_size, config.vision.image_size, 3)
    for shape in (pictures[mark].shape for mark in marks):
        if shape != expected:
            raise ValueError(f"expected pixels of {expected}, found {shape}")
