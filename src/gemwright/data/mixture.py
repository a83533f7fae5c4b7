"""Rows of several token streams, mixed by weight and read ahead, by grain.

A batch is a function of its number alone: what a checkpoint keeps of the input is one number, whatever the number of
processes that read it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np

from gemwright.data.packing import Batch, Tokens, rows_to_batch


@dataclass(frozen=True)
class Source:
    """A stream and its share of the rows.

    Attributes:
      stream: packed tokens, as `pack` joins them.
      weight: of its rows among all; any scale.
    """

    stream: Tokens
    weight: float = 1.0


@dataclass
class Mixture:
    """Sources mixed, each dealt out whole in a new order every epoch.

    Attributes:
      stages: from which batch on which weights hold, in the order of the sources; the sources' own before the first.
      ahead: batches that are read before they are asked for.
    """

    sources: Sequence[Source]
    bos: int
    seed: int
    stages: Sequence[tuple[int, Sequence[float]]] = ()
    ahead: int = 4
    _kinds: dict[tuple[int, int, int], Any] = field(default_factory=dict[tuple[int, int, int], Any])
    _next: tuple[tuple[int, int, int], int, Iterator[Tokens]] | None = None

    def batch(self, step: int, rows: int, length: int) -> Batch:
        """The rows of one step, each of `length` tokens.

        Raises:
          ModuleNotFoundError: if grain is not installed.
          ValueError: if a stream does not fill a row.
        """
        stage = sum(begin <= step for begin, _ in self.stages)
        kind = (stage, rows, length)
        if self._next is None or self._next[:2] != (kind, step):
            self._next = (kind, step, self._from(kind, step))
        found = next(self._next[2])
        self._next = (kind, step + 1, self._next[2])
        return rows_to_batch(found, self.bos)

    def _from(self, kind: tuple[int, int, int], step: int) -> Iterator[Tokens]:
        """The batches from a step on, read ahead."""
        if kind not in self._kinds:
            self._kinds[kind] = self._dataset(*kind)
        options = _grain().ReadOptions(num_threads=1, prefetch_buffer_size=self.ahead)
        iterator: Any = iter(self._kinds[kind].to_iter_dataset(options))
        iterator.set_state({"next_index": step})
        return iterator

    def _dataset(self, stage: int, rows: int, length: int) -> Any:
        grain = _grain()
        weights = self.stages[stage - 1][1] if stage else [source.weight for source in self.sources]
        read = [
            grain.MapDataset.source(_Rows(source.stream, length)).seed(self.seed + number).shuffle().repeat()
            for number, source in enumerate(self.sources)
        ]
        mixed = read[0] if len(read) == 1 else grain.MapDataset.mix(read, list(weights))
        return mixed.batch(rows, batch_fn=np.stack)


@dataclass(frozen=True)
class _Rows:
    """A stream cut into rows of length + 1 tokens, of which neighbours share one."""

    stream: Tokens
    length: int

    def __post_init__(self) -> None:
        if len(self) < 1:
            raise ValueError(f"{len(self.stream)} tokens do not fill one row of {self.length}: give more text")

    def __len__(self) -> int:
        return (len(self.stream) - 1) // self.length

    def __getitem__(self, index: int) -> Tokens:
        return np.asarray(self.stream[index * self.length : (index + 1) * self.length + 1])


def _grain() -> ModuleType:
    try:
        import grain
    except ModuleNotFoundError:
        raise ModuleNotFoundError("mixtures need grain: pip install 'gemwright[train]'") from None
    return grain
