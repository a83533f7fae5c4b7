"""The tokens of one pass for several rows, side by side, in arrays of a compiled length."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np

from gemwright.inference.sampling import GREEDY, Knobs, Sampling, knobs_of


class Batch:
    """Filled from the front; what is left over is padding.

    Attributes:
      rows, tokens, positions, counts: (length,) int32, as `choose_next` takes them.
      samplings: one a token.
    """

    def __init__(self, length: int) -> None:
        self.rows, self.tokens, self.counts = (np.zeros(length, np.int32) for _ in range(3))
        self.positions = np.full(length, -1, np.int32)
        self.samplings: list[Sampling] = [GREEDY] * length
        self._filled = 0

    def add(self, row: int, tokens: Sequence[int], position: int, count: int, sampling: Sampling) -> None:
        """Tokens of one row that stand at `position` and after, the first after `count` tokens of the answer."""
        part = slice(self._filled, self._filled + len(tokens))
        self.rows[part], self.tokens[part] = row, tokens
        self.positions[part] = np.arange(position, position + len(tokens))
        self.counts[part] = np.arange(count, count + len(tokens))
        self.samplings[part] = [sampling] * len(tokens)
        self._filled += len(tokens)

    def knobs(self) -> Knobs:
        return _knobs(tuple(self.samplings))


@lru_cache(maxsize=64)
def _knobs(samplings: tuple[Sampling, ...]) -> Knobs:
    """Kept, since they take longer to put on the device than a small model takes for a token."""
    return knobs_of(samplings, [one.seed for one in samplings if isinstance(one.seed, int)])
