"""A step of a run computed again on demand, and compared bit by bit with what was logged."""

import json
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from gemwright.core.sharding import BATCHES, place
from gemwright.data.ahead import Data
from gemwright.training.loop import begin
from gemwright.training.replay import Checksums, checksums
from gemwright.training.report import LOSSES
from gemwright.training.run import Run
from gemwright.training.settings import check_same
from gemwright.training.step import Measures, State
from gemwright.training.store import Store


@dataclass(frozen=True)
class Audit:
    """What computing a step again showed.

    Attributes:
      begun: the step of the checkpoint it was computed from.
      step: that was asked about.
      logged: whether loss and norm of each step since are those in the log. None where the log has none, and on an
        accelerator, where the run took many steps in one program, which rounds otherwise.
      unlike: arrays and devices whose bits differ between two computations, after the step.
    """

    begun: int
    step: int
    logged: bool | None
    unlike: list[tuple[str, int]]

    def __str__(self) -> str:
        told = {None: "not compared with the log", True: "as logged", False: "NOT as logged"}[self.logged]
        again = f"{len(self.unlike)} parts differ, {self.unlike[0]} first" if self.unlike else "equal to the bit"
        return f"step {self.step}, from the state of step {self.begun}: loss and norm {told}; computed twice: {again}"


def audit(run: Run, data: Data, folder: Path, step: int) -> Audit:
    """Compute a step of a run twice from the newest checkpoint before it, and compare.

    Raises:
      ValueError: if the run has no such step, or the folder is of another run.
    """
    if not 0 <= step < run.steps:
        raise ValueError(f"--replay {step}: expected a step from 0 to {run.steps - 1}")
    task, store = begin(run), Store(folder)
    fresh = task.fresh()
    like = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), fresh)
    begun = max((saved for saved in store.steps() if saved <= step), default=0)
    skipped = 0
    if begun:
        notes = store.notes(begun)
        check_same(notes["run"], run, store.folder)
        skipped = notes["skipped"]

    def once() -> tuple[Checksums, list[Measures]]:
        state: State = store.restore(begun, like) if begun else task.fresh()
        measured: list[Measures] = []
        for number in range(begun, step + 1):
            batch = data.batch(number + skipped, run.rows(number), run.length(number))
            placed = jax.tree.map(lambda part: place(np.asarray(part)[None], task.mesh, BATCHES), batch)
            state, measures = task.steps(state, placed)
            measured.append(measures)
        return checksums(state), measured

    (first, measured), (second, _) = once(), once()
    store.close()
    unlike = [part for part, value in first.items() if second[part] != value]
    return Audit(begun, step, _as_logged(folder, begun, measured), unlike)


def _as_logged(folder: Path, begun: int, measured: list[Measures]) -> bool | None:
    path = folder / LOSSES
    lines = path.read_text().splitlines()[begun : begun + len(measured)] if path.exists() else []
    if len(lines) < len(measured) or jax.default_backend() != "cpu":
        return None
    logged = [(record["loss"], record["norm"]) for record in map(json.loads, lines)]
    found = [(float(one.loss[0]), float(one.norm[0])) for one in measured]
    return all(
        np.float32(value) == np.float32(np.nan if kept is None else kept) or (kept is None and not np.isfinite(value))
        for values, kepts in zip(found, logged, strict=True)
        for value, kept in zip(values, kepts, strict=True)
    )
