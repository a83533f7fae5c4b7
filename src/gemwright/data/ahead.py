"""Batches read ahead by grain, in a thread, while the steps before them are computed.

What a checkpoint keeps of the input is one number, whatever the number of processes that read it: a batch is a function
of its number alone.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Protocol

from gemwright.data.packing import Batch


class Data(Protocol):
    """Batches by their number: the same for the same number, whatever came before, in every process."""

    def batch(self, step: int, rows: int, length: int) -> Batch: ...


@dataclass
class ReadAhead:
    """The batches of other data, the next of them at hand.

    Attributes:
      ahead: batches that are read before they are asked for.
    """

    data: Data
    ahead: int = 4
    _shape: tuple[int, int] = (0, 0)
    _step: int = -1
    _coming: Iterator[Batch] = field(default_factory=lambda: iter(()))

    def batch(self, step: int, rows: int, length: int) -> Batch:
        """The rows of one step.

        Raises:
          ModuleNotFoundError: if grain is not installed.
        """
        if (self._shape, self._step) != ((rows, length), step):
            self._shape, self._coming = (rows, length), self._from(step, rows, length)
        self._step = step + 1
        return next(self._coming)

    def _from(self, step: int, rows: int, length: int) -> Iterator[Batch]:
        grain = _grain()
        options = grain.ReadOptions(num_threads=1, prefetch_buffer_size=self.ahead)
        steps: Any = grain.MapDataset.source(_Steps(self.data, rows, length))
        found: Any = iter(steps.to_iter_dataset(options))
        found.set_state({"next_index": step})
        return found


@dataclass(frozen=True)
class _Steps:
    """Steps as items by their number, without an end."""

    data: Data
    rows: int
    length: int

    def __len__(self) -> int:
        return 1 << 40

    def __getitem__(self, step: int) -> Batch:
        return self.data.batch(step, self.rows, self.length)


def _grain() -> ModuleType:
    try:
        import grain
    except ModuleNotFoundError:
        raise ModuleNotFoundError("training needs grain: pip install 'gemwright[train]'") from None
    return grain
