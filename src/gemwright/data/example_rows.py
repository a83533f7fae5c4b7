"""Examples in rows: several share one, unseen by each other, and none is cut."""

import bisect
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Generic, TypeVar

import numpy as np

from gemwright.data.examples import Example
from gemwright.data.packing import Batch

T = TypeVar("T")

Group = list[int]
"""Examples of one row, by their numbers."""


def fill(sizes: Sequence[int], order: Sequence[int], room: int) -> list[Group]:
    """Deal examples out to rows: each to the fullest row that still has room for it (best fit).

    Args:
      sizes: of all examples.
      order: the numbers of those to be dealt.
      room: of a row; at least as large as each.
    """
    rows: list[Group] = []
    free: list[tuple[int, int]] = []  # room left and row, ascending
    for number in order:
        place = bisect.bisect_left(free, (sizes[number], 0))
        if place == len(free):
            rows.append([])
            left, row = room, len(rows) - 1
        else:
            left, row = free.pop(place)
        rows[row].append(number)
        bisect.insort(free, (left - sizes[number], row))
    return rows


def read_size(example: Example) -> int:
    """Tokens of a row that an example takes: its last one is a target alone."""
    return len(example.ids) - 1


@dataclass(frozen=True)
class Layout(Generic[T]):
    """How things are read in rows.

    Attributes:
      size: tokens of a row that one takes.
      lay: from the things of each row, the number of rows and their length to a step's batch; rows may be left over.
    """

    size: Callable[[T], int]
    lay: Callable[[Sequence[Sequence[T]], int, int], Any]


@dataclass(frozen=True)
class ExampleRows(Generic[T]):
    """Examples dealt out to steps, in an order that the seed fixes: each once an epoch.

    The batch of a step is a function of the step alone, so that a resumed run sees the same data.

    Attributes:
      lengths: of rows, ascending. An epoch has a stage for each; an example is read in the shortest rows it fits into.
      tokens: of a step.
      layout: of what the examples are; single ones if left out.
    """

    examples: Sequence[T]
    lengths: Sequence[int]
    tokens: int
    epochs: int
    seed: int = 0
    layout: Layout[T] = field(default_factory=lambda: _single())

    def __post_init__(self) -> None:
        longest = max(map(self.layout.size, self.examples))
        if list(self.lengths) != sorted(set(self.lengths)) or self.lengths[-1] < longest:
            raise ValueError(
                f"lengths {list(self.lengths)}: expected to ascend to {longest} or more, the longest example"
            )
        if any(self.tokens % length for length in self.lengths):
            raise ValueError(f"tokens {self.tokens}: expected a multiple of each length, {list(self.lengths)}")

    @cached_property
    def steps(self) -> list[tuple[int, list[Group]]]:
        """The length and the rows of each step."""
        found: list[tuple[int, list[Group]]] = []
        for epoch, (shorter, length) in itertools.product(range(self.epochs), itertools.pairwise((0, *self.lengths))):
            rows = self._dealt(epoch, shorter, length)
            each = self.tokens // length
            found += [(length, rows[first : first + each]) for first in range(0, len(rows), each)]
        return found

    @property
    def stages(self) -> list[tuple[int, int]]:
        """Of consecutive steps, how many there are with rows of one length, and that length."""
        return [(len(list(steps)), length) for length, steps in itertools.groupby(length for length, _ in self.steps)]

    @property
    def share_filled(self) -> float:
        """Of the tokens that all steps read, those that belong to an example."""
        read = self.epochs * sum(map(self.layout.size, self.examples))
        return read / (len(self.steps) * self.tokens)

    def numbers(self, step: int) -> list[int]:
        """The examples of a step."""
        return sorted(itertools.chain.from_iterable(self.steps[step][1]))

    def batch(self, step: int, rows: int, length: int) -> Any:
        """The rows of one step; those that no example is left for are empty.

        Raises:
          ValueError: if the step has rows of another number or length.
        """
        planned, groups = self.steps[step]
        if planned != length or rows != self.tokens // length:
            raise ValueError(
                f"step {step}: expected {self.tokens // planned} rows of {planned}, found {rows} of {length}"
            )
        return self.layout.lay([[self.examples[number] for number in group] for group in groups], rows, length)

    def _dealt(self, epoch: int, shorter: int, length: int) -> list[Group]:
        """The rows of one length: rows are mixed too, as the first to be opened are the fullest."""
        sizes = [self.layout.size(example) for example in self.examples]
        chosen = [number for number, size in enumerate(sizes) if shorter < size <= length]
        rng = np.random.default_rng([self.seed, epoch, length])
        rows = fill(sizes, rng.permutation(chosen).tolist() if chosen else [], length)
        return [rows[index] for index in rng.permutation(len(rows))]


def laid_out(groups: Sequence[Sequence[Example]], rows: int, length: int) -> Batch:
    """Rows of whole examples, each a segment of its own with positions from 0; what follows them counts nothing."""
    fields = np.zeros((5, rows, length), np.int32)
    inputs, targets, positions, segments, weights = fields
    for row, group in enumerate(groups):
        begin = 0
        for number, example in enumerate(group, 1):
            part = slice(begin, begin + read_size(example))
            inputs[row, part], targets[row, part] = example.ids[:-1], example.ids[1:]
            positions[row, part] = np.arange(part.stop - begin)
            segments[row, part], weights[row, part] = number, example.learned[1:]
            begin = part.stop
        positions[row, begin:] = np.arange(length - begin)
    for row in range(len(groups), rows):
        positions[row] = np.arange(length)
    batch: Any = Batch(*fields)  # pyright: ignore[reportArgumentType]  # the host's: a step takes them to its device
    return batch


def _single() -> Any:
    """Examples, each read for itself."""
    return Layout(read_size, laid_out)
