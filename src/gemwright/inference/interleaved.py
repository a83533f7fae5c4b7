"""Texts with pictures anywhere between them read into a session: texts in its chunks, a picture in a call of its own.

A row is its token ids, with a negative number in the place of each soft token of a picture: the picture's mark. Rows
that are alike so far thus show the same pictures, and what a session holds of them can be kept.
"""

import hashlib
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gemwright.inference.session import Sequences, Session
from gemwright.models.gemma3_vision import Config, Gemma3Vision

Pixels = np.ndarray[Any, Any]
"""(S, S, 3) in [-1, 1]."""


@dataclass(frozen=True)
class Row:
    """What a session is to read.

    Attributes:
      tokens: ids, and marks; the last is an id.
      pictures: by mark.
    """

    tokens: Sequence[int]
    pictures: Mapping[int, Pixels] = field(default_factory=dict[int, Pixels])


def mark_of(pixels: Pixels) -> int:
    """A negative number that equal pictures share, and no others."""
    return mark_for(pixels.tobytes())


def mark_for(content: bytes) -> int:
    """A negative number that stands for this content, and no other."""
    return -1 - int.from_bytes(hashlib.sha256(content).digest()[:7])


def advance_to(session: Session, weights: Gemma3Vision, config: Config, row: Row, looked: dict[int, jax.Array]) -> int:
    """Make the session's only row hold `row`, as `Session.advance_to` does; returns how many tokens were kept."""
    kept = session.go_back_to(row.tokens)
    read_rows(session, weights, config, [Row(row.tokens[kept:], row.pictures)], looked)
    return kept


def read_rows(
    session: Session,
    weights: Gemma3Vision,
    config: Config,
    rows: Sequence[Row],
    looked: dict[int, jax.Array] | None = None,
) -> None:
    """Read more texts and pictures into each row of a session of this model.

    Args:
      looked: (N, D) vectors by mark of pictures that were looked at before; new ones join them.

    Raises:
      ContextFull, MemoryShort: if they do not fit; nothing is read then.
      ValueError: if a token is not in the vocabulary.
    """
    session.reserve(max(len(held) + len(row.tokens) for held, row in zip(session.tokens, rows, strict=True)))
    looked = {} if looked is None else looked
    for mark, pixels in (shown for row in rows for shown in _wanted(row)):
        if mark not in looked:
            looked[mark] = _look(weights, pixels[None], config)
    left = [deque(_parts(row.tokens, config.picture_tokens)) for row in rows]
    while any(left):
        texts = [parts.popleft() if parts and parts[0][0] >= 0 else [] for parts in left]
        if any(texts):
            session.extend(texts)
        pictures = [parts.popleft() if parts and parts[0][0] < 0 else [] for parts in left]
        if any(pictures):
            _read_pictures(session, weights, config, pictures, looked)


@partial(jax.jit, static_argnames="config")
def _look(weights: Gemma3Vision, pixels: ArrayLike, config: Config) -> jax.Array:
    """(N, D) of one picture, so that no number of them is compiled anew."""
    return weights.look(jnp.asarray(pixels), config)[0]


def _wanted(row: Row) -> Iterator[tuple[int, Pixels]]:
    return ((mark, row.pictures[mark]) for mark in set(row.tokens) if mark < 0)


def _parts(tokens: Sequence[int], size: int) -> Iterator[list[int]]:
    """Runs of ids, and each picture's marks."""
    for _, run in groupby(tokens, key=lambda token: min(token, 0)):
        part = list(run)
        length = len(part) if part[0] >= 0 else size  # a picture beside itself is two
        yield from (part[start : start + length] for start in range(0, len(part), length))


def _read_pictures(
    session: Session,
    weights: Gemma3Vision,
    config: Config,
    pictures: Sequence[Sequence[int]],
    looked: Mapping[int, jax.Array],
) -> None:
    """A picture each into those rows that have one next."""
    nothing = jnp.zeros_like(next(iter(looked.values())))
    vectors = jnp.stack([looked[marks[0]] if marks else nothing for marks in pictures])
    starts = np.array([[len(row)] for row in session.tokens], np.int32)
    here = np.array([[bool(marks)] for marks in pictures])
    positions = np.where(here, starts + np.arange(config.picture_tokens, dtype=np.int32), np.int32(-1))
    session.state = _read(weights, session.state, vectors, positions, config)
    for row, marks in zip(session.tokens, pictures, strict=True):
        row.extend(marks)


@partial(jax.jit, static_argnames="config", donate_argnames="state")
def _read(
    weights: Gemma3Vision, state: Sequences, vectors: jax.Array, positions: ArrayLike, config: Config
) -> Sequences:
    positions = jnp.asarray(positions)
    places = jnp.arange(positions.size, dtype=jnp.int32).reshape(positions.shape)
    nothing, held = jnp.zeros_like(places), state.caches
    hidden, caches = weights.read(nothing, vectors, places, config, positions=positions, cache=held)  # pyright: ignore[reportArgumentType]
    assert caches is not None
    return Sequences(caches, jnp.where(positions[:, -1:] < 0, state.last, hidden[:, -1]))
