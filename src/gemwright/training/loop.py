"""The loop: steps, progress, checkpoints. Interrupted or killed, it resumes where it was, bit by bit."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import jax
import numpy as np
import optax
from jax.sharding import Mesh

from gemwright.core.module import drawn, map_specs
from gemwright.core.sharding import BATCHES, FULLY_SHARDED, make_mesh, place, sharding_of
from gemwright.core.trainable import join, specs_like, split
from gemwright.data.packing import Batch
from gemwright.models.family import Decoder, specs_of
from gemwright.training.optimizer import make_optimizer
from gemwright.training.report import Report, plot_losses
from gemwright.training.run import Run
from gemwright.training.settings import check_same, deciding
from gemwright.training.step import State, fresh_state, make_steps
from gemwright.training.store import Store

BURST = 50
"""Steps of one program on an accelerator."""


class Data(Protocol):
    """Batches by their number: the same for the same number, whatever came before, in every process."""

    def batch(self, step: int, rows: int, length: int) -> Batch: ...


class Interrupted(Exception):
    """Asked to stop, and all is saved."""


def train(
    run: Run,
    data: Data,
    folder: Path,
    *,
    weights: Decoder | None = None,
    is_trained: Callable[[str], bool] | None = None,
    save_every: int = 100,
    until: int | None = None,
    burst: int | None = None,
    stop: Callable[[], bool] = lambda: False,
) -> Decoder:
    """Train, or go on training where `folder` left off, and return the weights, spread over the run's mesh.

    Every process of a run calls this with the same arguments; the folder is one that all of them see.

    Args:
      run: the recipe.
      data: the text, in rows of the lengths that the stages ask for.
      folder: receives `checkpoints` (what is trained, its optimizer and the place in the data; every `save_every` steps
        and at the end), `losses.jsonl` (a line a step) and `loss.png`.
      weights: to begin with, adapted or not; drawn by the run's seed unless given.
      is_trained: by the name of a leaf, whether it is trained; all are unless given.
      until: stop after this step instead of at the run's end.
      burst: steps of one program; by default 1 on a CPU, and `BURST` on an accelerator.
      stop: asked after each program; once it says so, the state is saved.

    Raises:
      ValueError: if the folder holds the state of another run, or the mesh does not fit devices or rows.
      Interrupted: after `stop`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task = begin(run, weights, is_trained)
    burst = burst or (1 if jax.default_backend() == "cpu" else BURST)
    last = min(run.steps, until or run.steps)
    store = Store(folder)
    try:
        state, first = _resumed(store, run, task.state)
        with Report(folder, run.tokens_per_step, first, last, shown=jax.process_index() == 0) as report:
            for steps in groups(run, first, last, burst, save_every):
                state, measures = task.steps(state, task.batches(run, data, steps))
                report.begun(steps, measures)
                stopping = stop()
                if steps.stop % save_every == 0 or steps.stop == last or stopping:
                    report.finish()
                    store.save(steps.stop, state, _notes(run, steps.stop))
                if stopping and steps.stop < last:
                    raise Interrupted(f"stopped after step {steps.stop} of {run.steps}")
    finally:
        store.close()
    if jax.process_index() == 0:
        plot_losses(folder)
    return state.weights if task.frozen is None else join(state.weights, task.frozen)


@dataclass
class Task:
    """A run made ready for this machine.

    Attributes:
      state: of no steps.
      steps: the program.
      frozen: what is not trained.
    """

    mesh: Mesh
    state: State
    steps: Callable[[State, Batch], tuple[State, Any]]
    frozen: Decoder | None

    def batches(self, run: Run, data: Data, steps: range) -> Batch:
        """Those of some steps, stacked, each row on its device."""
        length, rows = run.length(steps.start), run.rows(steps.start)
        found = [data.batch(step, rows, length) for step in steps]
        return jax.tree.map(lambda *parts: place(np.stack(parts), self.mesh, BATCHES), *found)


def begin(run: Run, weights: Decoder | None = None, is_trained: Callable[[str], bool] | None = None) -> Task:
    """Mesh, program and first state of a run.

    Raises:
      ValueError: if the mesh does not fit the devices or the rows.
    """
    mesh, specs = make_mesh(run.mesh), specs_of(run.model)
    _check_rows(run, mesh)
    trained, frozen = _drawn(specs, run.seed, mesh) if weights is None else weights, None
    if is_trained is not None:
        trained, frozen = split(trained, is_trained)
    declared = specs_like(specs, trained)
    optimizer: optax.GradientTransformation = make_optimizer(run, declared, mesh)
    steps = make_steps(run.model, optimizer, mesh, run.compute, specs=declared, frozen=frozen)
    return Task(mesh, fresh_state(trained, declared, optimizer, mesh), steps, frozen)


def groups(run: Run, first: int, last: int, burst: int, save_every: int) -> Iterator[range]:
    """Runs of at most `burst` steps whose rows are equally long, ending where a state is saved."""
    while first < last:
        end = min(first + burst, last, first - first % save_every + save_every)
        end = next((step for step in range(first, end) if run.length(step) != run.length(first)), end)
        yield range(first, end)
        first = end


def _check_rows(run: Run, mesh: Mesh) -> None:
    sharing = mesh.shape["data"] * mesh.shape["fsdp"] * run.compute.accumulate
    for stage in run.stages:
        rows = run.tokens_per_step // stage.length
        if rows * stage.length != run.tokens_per_step or rows % sharing:
            raise ValueError(
                f"tokens_per_step {run.tokens_per_step}: expected a multiple of {stage.length * sharing}, so that rows "
                f"of {stage.length} tokens are shared by {sharing} (data x fsdp x accumulate); change it or the mesh"
            )


def _drawn(specs: Decoder, seed: int, mesh: Mesh) -> Decoder:
    """First weights, each placed before the next is drawn."""

    def one(name: str, spec: Any) -> jax.Array:
        return place(np.asarray(drawn(seed, name, spec)), mesh, sharding_of(spec, mesh, FULLY_SHARDED).spec)

    return map_specs(one, specs)


def _resumed(store: Store, run: Run, fresh: State) -> tuple[State, int]:
    """The newest state in the store and its steps, or the fresh one."""
    if not (steps := store.steps()):
        return fresh, 0
    check_same(store.notes(steps[-1])["run"], run, store.folder)
    return store.restore(steps[-1], fresh), steps[-1]


def _notes(run: Run, step: int) -> dict[str, Any]:
    return {"run": deciding(run), "batches": step}
