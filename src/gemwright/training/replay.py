"""Silent faults of a machine found: steps computed again, and compared bit by bit.

Over a stretch of steps the state's checksums are noted, part by part, before and after each program. A part that
changes between two programs was changed in memory. At the stretch's end its steps are computed again from a copy of
their beginning: a program whose results differ computed wrongly in one of the two, and a third time decides in which.
"""

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import named_leaves
from gemwright.data.packing import Batch
from gemwright.training.step import Measures, State, Steps

Checksums = dict[tuple[str, int], int]
"""By array and device, of the parts that this process holds."""


@dataclass(frozen=True)
class Fault:
    """Bits that changed by themselves.

    Attributes:
      steps: of the program, during or before which they did.
      where: `memory`, `batch` or `computation`.
      parts: arrays and devices that differ first; after a computation, all that it reached.
    """

    steps: range
    where: str
    parts: list[tuple[str, int]]

    def __str__(self) -> str:
        name, device = self.parts[0] if self.parts else ("another process's part", -1)
        more = f" and {len(self.parts) - 1} more parts" if len(self.parts) > 1 else ""
        steps = f"steps {self.steps.start} to {self.steps.stop - 1}"
        return f"bits changed in {self.where}: {name} on device {device}{more}, {steps}"


class Outcome(NamedTuple):
    """Of a program.

    Attributes:
      state: what an undisturbed machine would have computed.
      measures: of its steps; of the whole stretch where it was computed again.
      faults: that were found.
    """

    state: State
    measures: list[tuple[range, Measures]]
    faults: list[Fault]


@dataclass
class _Noted:
    steps: range
    after: Checksums


@dataclass
class Replay:
    """The program of a run, watched over the last `length` steps before each multiple of `every`.

    Attributes:
      batches: of some steps, as the host has them.
    """

    program: Steps
    batches: Callable[[range], Batch]
    every: int
    length: int
    _begun: State | None = None
    _noted: list[_Noted] = field(default_factory=list[_Noted])

    def is_border(self, step: int) -> bool:
        """Whether a program must end here."""
        return bool(self.every) and (step % self.every == 0 or (step + self.length) % self.every == 0)

    def forget(self) -> None:
        """The next program does not follow the last one."""
        self._begun, self._noted = None, []

    def __call__(self, steps: range, state: State) -> Outcome:
        """Take some steps.

        Raises:
          RuntimeError: if no two computations agree.
        """
        batches = self.batches(steps)
        if not self.every or steps.start % self.every < self.every - self.length:
            state, measures = self.program(state, batches)
            return Outcome(state, [(steps, measures)], [])
        return self._watched(steps, state, batches)

    def _watched(self, steps: range, state: State, batches: Batch) -> Outcome:
        faults = self._faults_at_rest(steps, state, batches)
        if any(fault.where == "memory" for fault in faults):
            state, _ = self._redone()
        if self._begun is None:
            self._begun = _copy(state)
        state, measures = self.program(state, self.batches(steps) if faults else batches)
        self._noted.append(_Noted(steps, checksums(state)))
        done = [(steps, measures)]
        if steps.stop % self.every == 0:
            if (fault := self._compared()) is not None:
                faults.append(fault)
                state, done = self._decided()
            self.forget()
        return Outcome(state, done, faults)

    def _faults_at_rest(self, steps: range, state: State, batches: Batch) -> list[Fault]:
        found: list[Fault] = []
        if self._noted and (parts := _differing(self._noted[-1].after, checksums(state))) is not None:
            found.append(Fault(steps, "memory", parts))
        if (parts := _differing(checksums(self.batches(steps)), checksums(batches))) is not None:
            found.append(Fault(steps, "batch", parts))
        return found

    def _redone(self) -> tuple[State, list[tuple[range, Measures]]]:
        """The stretch so far, computed again."""
        assert self._begun is not None
        state, done = _copy(self._begun), list[tuple[range, Measures]]()
        for noted in self._noted:
            state, measures = self.program(state, self.batches(noted.steps))
            done.append((noted.steps, measures))
        return state, done

    def _compared(self) -> Fault | None:
        """The first program whose results are not what it gives now."""
        assert self._begun is not None
        state = _copy(self._begun)
        for noted in self._noted:
            state, _ = self.program(state, self.batches(noted.steps))
            if (parts := _differing(noted.after, checksums(state))) is not None:
                return Fault(noted.steps, "computation", parts)
        return None

    def _decided(self) -> tuple[State, list[tuple[range, Measures]]]:
        """The stretch as two more computations agree on it."""
        (first, done), (second, _) = self._redone(), self._redone()
        if _differing(checksums(first), checksums(second)) is not None:
            raise RuntimeError(
                f"steps {self._noted[0].steps.start} to {self._noted[-1].steps.stop - 1}: computed again and again, no "
                "two results are alike; train on another machine. The newest checkpoint is from before them"
            )
        return first, done


def checksums(tree: Any) -> Checksums:
    """Of each part of each array that lies on this process's devices."""
    return {
        (name, shard.device.id): zlib.crc32(
            np.ascontiguousarray(np.asarray(shard.data)).reshape(-1).view(np.uint8).data
        )
        for name, leaf in named_leaves(tree).items()
        for shard in leaf.addressable_shards
    }


def _differing(one: Checksums, other: Checksums) -> list[tuple[str, int]] | None:
    """Where two differ; None if nowhere, in any process."""
    found = [part for part, value in one.items() if other[part] != value]
    if jax.process_count() > 1:
        from jax.experimental import multihost_utils

        anywhere = multihost_utils.process_allgather(np.array(len(found)))
        return found if int(np.sum(anywhere)) else None
    return found or None


def _copy(state: State) -> State:
    return jax.tree.map(jnp.copy, state)
