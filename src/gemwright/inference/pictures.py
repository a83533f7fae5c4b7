"""Pictures and the prompt behind them read into a session, from where `decode` goes on as after any text."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from gemwright.inference.interleaved import Pixels, Row, mark_of
from gemwright.inference.session import CHUNKS, Sequences, Session, chunk_length
from gemwright.models.paligemma import Config, PaliGemma


def row_of(pictures: Sequence[Pixels], prompt: Sequence[int], config: Config) -> Row:
    """Pictures, then a prompt: BOS, text and newline."""
    marks = [mark_of(pixels) for pixels in pictures]
    patches = [mark for mark in marks for _ in range(config.picture_tokens)]
    return Row([*patches, *prompt], dict(zip(marks, pictures, strict=True)))


def read_pictures(session: Session, weights: PaliGemma, config: Config, rows: Sequence[Row]) -> None:
    """Read pictures and prompts into each row of an empty session of this model, or of its decoder.

    Args:
      rows: as `row_of` gives them, with as many pictures in each. All of a row sees all of it, and so is read in one
        call, whatever its length.

    Raises:
      ContextFull, MemoryShort: if pictures and prompts do not fit.
      ValueError: if the session is not empty, a prompt is empty, or rows differ in their pictures.
    """
    patches, prompts = _split(rows)
    _check(session, config, patches, prompts)
    lengths = [len(prompt) for prompt in prompts]
    session.reserve(len(patches[0]) + max(lengths))
    tokens = np.zeros((len(rows), compiled_length(max(lengths))), np.int32)
    for row, prompt in enumerate(prompts):
        tokens[row, : len(prompt)] = prompt
    pixels = [
        row.pictures[mark] for row, marks in zip(rows, patches, strict=True) for mark in marks[:: config.picture_tokens]
    ]
    arrays = np.stack(pixels), tokens, np.array(lengths, np.int32)
    session.state = _read(weights, session.state.caches, *arrays, config)
    session.tokens = [list(row.tokens) for row in rows]


@partial(jax.jit, static_argnames="config", donate_argnames="caches")
def _read(
    weights: PaliGemma,
    caches: Any,
    pixels: ArrayLike,
    tokens: ArrayLike,
    lengths: ArrayLike,
    config: Config,
) -> Sequences:
    pixels, tokens, lengths = jnp.asarray(pixels), jnp.asarray(tokens), jnp.asarray(lengths)
    hidden, kept = weights.read(pixels, tokens, config, prompts=lengths, lengths=lengths, cache=caches)
    assert kept is not None
    return Sequences(kept, jnp.take_along_axis(hidden, lengths[:, None, None] - 1, axis=1)[:, 0])


def _split(rows: Sequence[Row]) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """The marks of each row, and its prompt."""
    counts = [sum(token < 0 for token in row.tokens) for row in rows]
    cut = list(zip(rows, counts, strict=True))
    return [row.tokens[:count] for row, count in cut], [row.tokens[count:] for row, count in cut]


def compiled_length(length: int) -> int:
    """A prompt's length with its padding: one of few, so that not every prompt is compiled."""
    return chunk_length(length) if length <= CHUNKS[-1] else -(-length // CHUNKS[-1]) * CHUNKS[-1]


def _check(
    session: Session, config: Config, patches: Sequence[Sequence[int]], prompts: Sequence[Sequence[int]]
) -> None:
    if any(session.tokens):
        raise ValueError("a picture stands at the beginning: expected an empty session, found one that holds tokens")
    if not all(prompts):
        raise ValueError("expected a prompt of 1 token or more behind the pictures, found none")
    counts = [len(marks) // config.picture_tokens for marks in patches]
    if len(set(counts)) > 1:
        raise ValueError(
            f"expected as many pictures before each prompt, found {counts}: ask in groups that have as many"
        )
