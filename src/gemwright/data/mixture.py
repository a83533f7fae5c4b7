"""Several streams dealt out together, each with a weight, in stages that change the weights.

The batch of a step is a function of the step alone, as with `Rows`: a resumed run sees the same data.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gemwright.data.packing import Batch, Rows, rows_to_batch

_GOLDEN = 0x9E3779B97F4A7C15  # the golden ratio's fraction, of 2**64: its multiples spread as evenly as can be


@dataclass(frozen=True)
class MixtureStage:
    """Steps with the same weights.

    Attributes:
      steps: how many.
      weights: of the sources, by name; they need not add up to 1. A source left out is not read.
    """

    steps: int
    weights: Mapping[str, float]


@dataclass(frozen=True)
class Mixture:
    """Rows of sources in the proportions of the stages, every source in an order of its own.

    Attributes:
      sources: a stream each, by name.
      stages: one after the other; the last one goes on for ever.
      rows: rows of a step's batch.
      length: tokens of a row.
    """

    sources: Mapping[str, Rows]
    stages: tuple[MixtureStage, ...]
    rows: int
    length: int

    def __post_init__(self) -> None:
        for stage in self.stages:
            unknown = set(stage.weights) - set(self.sources)
            if unknown or not any(stage.weights.values()) or min(stage.weights.values()) < 0:
                what = f"unknown sources {sorted(unknown)}" if unknown else f"weights {dict(stage.weights)}"
                raise ValueError(
                    f"a stage of {stage.steps} steps: expected weights of {sorted(self.sources)}; got {what}"
                )
        if not self.stages:
            raise ValueError("expected at least one stage")

    def batch(self, step: int) -> Batch:
        """The rows of one step."""
        return rows_to_batch(np.stack([self._row(*place) for place in self.places(step)]), self._bos)

    def places(self, step: int) -> list[tuple[str, int]]:
        """For each row of a step its source, and which of the source's rows it is, counted over epochs."""
        stage, first = self._stage_of(step)
        begin = step * self.rows
        before = dict(self._read_before[stage])
        chosen = self._chosen(stage, np.arange(first * self.rows, begin + self.rows))
        counts = np.bincount(chosen[: begin - first * self.rows], minlength=len(self.names))
        places: list[tuple[str, int]] = []
        for source in chosen[begin - first * self.rows :].tolist():
            places.append((self.names[source], before[self.names[source]] + int(counts[source])))
            counts[source] += 1
        return places

    def epochs(self, steps: int) -> dict[str, float]:
        """How often each source has been read after so many steps."""
        stage, first = self._stage_of(steps)
        chosen = self._chosen(stage, np.arange(first * self.rows, steps * self.rows))
        counts = np.bincount(chosen, minlength=len(self.names))
        return {
            name: (self._read_before[stage][name] + int(count)) * self.length / len(self.sources[name].stream)
            for name, count in zip(self.names, counts, strict=True)
        }

    @cached_property
    def names(self) -> list[str]:
        return sorted(self.sources)

    @property
    def _bos(self) -> int:
        return self.sources[self.names[0]].bos

    def _row(self, source: str, number: int) -> npt.NDArray[np.uint32]:
        return self.sources[source].row(number, self.length)

    def _chosen(self, stage: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The source of each row: where the golden ratio's next multiple falls among the weights."""
        weights = np.array([self.stages[stage].weights.get(name, 0.0) for name in self.names])
        edges = np.cumsum(weights) / weights.sum()
        at = (rows.astype(np.uint64) * np.uint64(_GOLDEN)).astype(np.float64) / 2**64
        last = int(np.flatnonzero(weights)[-1])
        return np.minimum(np.searchsorted(edges, at, side="right"), last)

    def _stage_of(self, step: int) -> tuple[int, int]:
        """A step's stage and that stage's first step."""
        first = 0
        for number, stage in enumerate(self.stages[:-1]):
            if step < first + stage.steps:
                return number, first
            first += stage.steps
        return len(self.stages) - 1, first

    @cached_property
    def _read_before(self) -> list[dict[str, int]]:
        """Rows of each source that the stages before each stage read."""
        totals, first = [dict.fromkeys(self.names, 0)], 0
        for number, stage in enumerate(self.stages[:-1]):
            rows = np.arange(first * self.rows, (first + stage.steps) * self.rows)
            counts = np.bincount(self._chosen(number, rows), minlength=len(self.names))
            totals.append({name: totals[-1][name] + int(n) for name, n in zip(self.names, counts, strict=True)})
            first += stage.steps
        return totals
