"""Several streams dealt out together, each with a weight, in stages that change the weights.

The batch of a step is a function of the step alone, as with `Rows`: a resumed run sees the same data.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from gemwright.data.packing import Batch, Rows, rows_to_batch

_GOLDEN = 0x9E3779B97F4A7C15  # the golden ratio's fraction, of 2**64: its multiples spread as evenly as can be
_BLOCK = 4096  # steps that are counted at once

Counts = npt.NDArray[np.int64]


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

    A step's place in a source is counted as if all steps before had as many rows as this one. So where rows grow
    longer while a step's tokens stay as many, reading goes on at about the same share of the source.

    Attributes:
      sources: a stream each, by name.
      stages: one after the other; the last one goes on for ever.
    """

    sources: Mapping[str, Rows]
    stages: tuple[MixtureStage, ...]
    _counted: dict[int, tuple[int, Counts]] = field(default_factory=dict[int, tuple[int, Counts]], compare=False)

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

    def batch(self, step: int, rows: int, length: int) -> Batch:
        """The rows of one step, each of `length` tokens.

        Raises:
          ValueError: if a source does not fill a row.
        """
        found = [self.sources[source].row(number, length) for source, number in self.places(step, rows)]
        return rows_to_batch(np.stack(found), self.sources[self.names[0]].bos)

    def places(self, step: int, rows: int) -> list[tuple[str, int]]:
        """For each row of a step its source, and which of the source's rows it is, counted over epochs."""
        counts = self._before(step, rows).copy()
        places: list[tuple[str, int]] = []
        for source in self._chosen(step, np.arange(step * rows, (step + 1) * rows)).tolist():
            places.append((self.names[source], int(counts[source])))
            counts[source] += 1
        return places

    def epochs(self, steps: int, rows: int, length: int) -> dict[str, float]:
        """How often each source has been read after so many steps."""
        counts = self._before(steps, rows).tolist()
        return {
            name: count * length / len(self.sources[name].stream)
            for name, count in zip(self.names, counts, strict=True)
        }

    @cached_property
    def names(self) -> list[str]:
        return sorted(self.sources)

    def _before(self, step: int, rows: int) -> Counts:
        """Rows of each source in the steps before; counted on from the step that was asked for last."""
        done, counts = self._counted.get(rows, (0, np.zeros(len(self.names), np.int64)))
        if done > step:
            done, counts = 0, np.zeros_like(counts)
        while done < step:
            end = min(step, done + _BLOCK, self._stage_end(done))
            chosen = self._chosen(done, np.arange(done * rows, end * rows))
            done, counts = end, counts + np.bincount(chosen, minlength=len(self.names))
        self._counted[rows] = (done, counts)
        return counts

    def _chosen(self, step: int, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """The source of each row of a step's stage: where the golden ratio's next multiple falls among the weights."""
        stage = next((one for one, end in zip(self.stages, self._ends, strict=True) if step < end), self.stages[-1])
        weights = np.array([stage.weights.get(name, 0.0) for name in self.names])
        edges = np.cumsum(weights) / weights.sum()
        at = (rows.astype(np.uint64) * np.uint64(_GOLDEN)).astype(np.float64) / 2**64
        last = int(np.flatnonzero(weights)[-1])
        return np.minimum(np.searchsorted(edges, at, side="right"), last)

    def _stage_end(self, step: int) -> int:
        return next((end for end in self._ends[:-1] if step < end), step + _BLOCK)

    @cached_property
    def _ends(self) -> list[int]:
        return np.cumsum([stage.steps for stage in self.stages]).tolist()
