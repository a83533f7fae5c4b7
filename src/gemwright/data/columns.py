"""Columns of numbers longer than memory holds: parts on disk, read some rows at a time."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from gemwright.core.arrays import map_array

Array = npt.NDArray[Any]
Part = Array | Path

_HELD = 8 << 20  # bytes read at a time


@dataclass(frozen=True)
class Columns:
    """Named columns, each the parts of several pieces one after the other.

    Attributes:
      pieces: of each piece, its columns: arrays, or `.npy` files. A file's pages are given back after each read:
        a file that stayed mapped would count as memory in use.
    """

    pieces: Sequence[Mapping[str, Part]]

    def rows(self, name: str) -> int:
        return sum(self._sizes(name))

    def read(self, name: str) -> Iterator[Array]:
        """The rows in order, some megabytes of them at a time."""
        for piece in self.pieces:
            part = piece[name]
            size = len(_opened(part))
            step = max(1, _HELD // max(_opened(part)[:1].nbytes, 1))
            for begin in range(0, size, step):
                yield np.array(_opened(part)[begin : begin + step])

    def take(self, name: str, rows: Array) -> Array:
        """Some rows by their numbers, in any order."""
        ends = np.cumsum(self._sizes(name))
        places = np.searchsorted(ends, rows, side="right")
        result = np.zeros((len(rows), *_opened(self.pieces[0][name]).shape[1:]), _opened(self.pieces[0][name]).dtype)
        for place in np.unique(places):
            here = places == place
            part = _opened(self.pieces[place][name])
            result[here] = part[rows[here] - (ends[place] - len(part))]
        return result

    def _sizes(self, name: str) -> list[int]:
        return [len(_opened(piece[name])) for piece in self.pieces]


def _opened(part: Part) -> Array:
    return map_array(part) if isinstance(part, Path) else part
