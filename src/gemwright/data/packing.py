"""Token streams and the batches cut from them.

A stream is one array of token ids in which every document begins with BOS, so that the borders
need no second array: a token's segment is the number of BOS before it.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from gemwright.core.module import module

Tokens = np.ndarray[Any, Any]


@module
class Soft:
    """What a teacher gives each target's place.

    Attributes:
      tokens: (..., k) int32, the likeliest.
      shares: (..., k) float32, their probabilities; the rest up to 1 is not learned.
    """

    tokens: jax.Array
    shares: jax.Array


@module
class Batch:
    """Rows of packed documents, each (rows, length) int32.

    Attributes:
      inputs: tokens read.
      targets: the token that follows each of them.
      positions: position of each token in its document's part of the row.
      segments: number of the document in the row; documents do not see each other.
      weights: 1 where the target belongs to the same document, else 0.
      soft: what is learned in place of the targets, if anything.
    """

    inputs: jax.Array
    targets: jax.Array
    positions: jax.Array
    segments: jax.Array
    weights: jax.Array
    soft: Soft | None = None


def pack(documents: Iterable[list[int]], bos: int, vocab_size: int) -> Tokens:
    """Join documents, each beginning with BOS, into one stream of the smallest fitting integers.

    Raises:
      ValueError: if a document does not begin with BOS, or has a second one.
    """
    dtype = np.uint16 if vocab_size <= 1 << 16 else np.uint32
    parts: list[Tokens] = []
    for number, document in enumerate(documents):
        part = np.asarray(document, dtype)
        if not len(part) or part[0] != bos or (part[1:] == bos).any():
            raise ValueError(
                f"document {number}: expected exactly one BOS ({bos}), at its beginning; got {document[:8]}"
            )
        parts.append(part)
    return np.concatenate(parts) if parts else np.zeros(0, dtype)


def rows_to_batch(rows: Tokens, bos: int) -> Batch:
    """Split (n, length + 1) rows of a stream into what a training step reads."""
    rows = rows.astype(np.int32)
    starts = rows == bos
    segments = np.cumsum(starts, axis=1, dtype=np.int32)
    index = np.broadcast_to(np.arange(rows.shape[1], dtype=np.int32), rows.shape)
    begun = np.maximum.accumulate(np.where(starts, index, 0), axis=1)
    weights = (segments[:, 1:] == segments[:, :-1]).astype(np.int32)
    fields = (rows[:, :-1], rows[:, 1:], (index - begun)[:, :-1], segments[:, :-1], weights)
    return Batch(*fields)  # pyright: ignore[reportArgumentType]  # the host's: a step takes them to its device


@dataclass(frozen=True)
class Rows:
    """A stream cut into rows of any one length, dealt out in an order that the seed fixes.

    The batch of a step is a function of the step alone, so that a resumed run sees the same data.
    """

    stream: Tokens
    bos: int
    seed: int

    def batch(self, step: int, rows: int, length: int) -> Batch:
        """The rows of one step, each of `length` tokens and from a place of its own.

        Raises:
          ValueError: if the stream does not fill a row.
        """
        wanted = range(step * rows, (step + 1) * rows)
        return rows_to_batch(np.stack([self.row(number, length) for number in wanted]), self.bos)

    def row(self, number: int, length: int) -> Tokens:
        """(length + 1,) one row, the `number`-th that is dealt; beyond the last one another epoch begins.

        Raises:
          ValueError: if the stream does not fill a row.
        """
        size = len(self.stream)
        count = (size - 1) // length
        if count < 1:
            raise ValueError(f"{size} tokens do not fill one row of {length}: give more text")
        epoch, index = divmod(number, count)
        start = _starts(self.seed, epoch, count, length, size)[index]
        return self.stream[(start + np.arange(length + 1)) % size]


@functools.lru_cache(maxsize=32)  # sources of a mixture are read in turn
def _starts(seed: int, epoch: int, count: int, length: int, size: int) -> Tokens:
    """Where an epoch's rows begin, in its order; later epochs cut the stream, taken as a ring, in other places."""
    rng = np.random.default_rng([seed, epoch])
    order = rng.permutation(count)
    return order * length + (rng.integers(size) if epoch else 0)
