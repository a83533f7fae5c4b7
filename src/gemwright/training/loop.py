"""The loop: steps, progress, checkpoints. Interrupted or killed, it resumes where it was, bit by bit."""

import contextlib
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh

from gemwright.core.module import abstract, drawn, map_specs
from gemwright.core.sharding import BATCHES, FULLY_SHARDED, make_mesh, place, sharding_of
from gemwright.core.trainable import join, specs_like, split
from gemwright.data.ahead import Data
from gemwright.data.packing import Batch
from gemwright.models.family import Decoder, specs_of
from gemwright.training.costs import Costs
from gemwright.training.effort import step_flops
from gemwright.training.guard import trouble
from gemwright.training.members import Members
from gemwright.training.optimizer import make_optimizer
from gemwright.training.replay import Replay
from gemwright.training.report import Report, plot_losses
from gemwright.training.run import Run
from gemwright.training.settings import check_same, deciding
from gemwright.training.step import State, Steps, fresh_state, make_steps
from gemwright.training.store import Store

BURST = 50
"""Steps of one program on an accelerator."""


class Interrupted(Exception):
    """Asked to stop, and all is saved."""


class Diverged(ValueError):
    """Losses stay no numbers, or spike, however often the run goes back; the state saved last is from before.

    Attributes:
      batch: the number of the last batch that was read.
    """

    def __init__(self, message: str, batch: int) -> None:
        super().__init__(message)
        self.batch = batch


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
    peak: float | None = None,
    members: Members | None = None,
    country: str | None = None,
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
      peak: operations a second that the machine can do, to show the share that is done.
      stop: asked after each program; once it says so in any process, the state is saved.
      country: whose electricity is used, an ISO code of three letters, to estimate its carbon.
      members: the processes of a supervised run, which go on from each other's memory where one was lost.

    Raises:
      ValueError: if the folder holds the state of another run, or the mesh does not fit devices or rows.
      Diverged: as `Guard` says.
      Interrupted: after `stop`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    task = begin(run, weights, is_trained)
    if until is not None and until < 1:
        raise ValueError(f"--until {until}: expected a step of 1 or more")
    last = min(run.steps, until or run.steps)
    first = jax.process_index() == 0
    with contextlib.ExitStack() as stack:
        store = stack.enter_context(_open(folder, members))
        began = members.began if members else time.time()
        costs = stack.enter_context(Costs(folder, began, country)) if first else None
        report = stack.enter_context(Report(folder, run.tokens_per_step, last, task.flops, peak, first, costs))
        loop = _Loop(run, data, task, store, report, members)
        loop.go_to(last, burst or (1 if jax.default_backend() == "cpu" else BURST), save_every, stop)
    if jax.process_index() == 0:
        plot_losses(folder)
    found = loop.state.weights
    return found if task.frozen is None else join(found, task.frozen)


@contextlib.contextmanager
def _open(folder: Path, members: Members | None) -> Generator[Store]:
    """The checkpoints of a folder, let go of at the end."""
    store, lost = Store(folder), False
    try:
        yield store
    except (RuntimeError, ValueError):
        lost = True
        raise
    finally:
        if lost and members:  # what is being written would wait for the lost process
            members.closing.append(store.close)
        else:
            store.close()


@dataclass
class Task:
    """A run made ready for this machine.

    Attributes:
      fresh: the state of no steps.
      steps: the program.
      frozen: what is not trained.
      flops: that a step needs, by its number.
    """

    mesh: Mesh
    fresh: Callable[[], State]
    steps: Steps
    frozen: Decoder | None
    flops: Callable[[int], float]


def begin(run: Run, weights: Decoder | None = None, is_trained: Callable[[str], bool] | None = None) -> Task:
    """Mesh, program and first state of a run.

    Raises:
      ValueError: if the mesh does not fit the devices or the rows.
    """
    mesh, specs = make_mesh(run.mesh), specs_of(run.model)
    _check_rows(run, mesh)
    if run.compute.scan and run.model.family != "gemma":
        raise ValueError(f"compute.scan: expected a Gemma 1, whose layers are alike, found {run.model.family}")
    trained, frozen = (abstract(specs, jnp.dtype(jnp.float32)) if weights is None else weights), None
    if weights is not None and is_trained is not None:
        trained, frozen = split(trained, is_trained)
    declared = specs_like(specs, trained)
    optimizer: optax.GradientTransformation = make_optimizer(run, declared, mesh)
    steps = make_steps(run.model, optimizer, mesh, run.compute, specs=declared, frozen=frozen)

    def fresh() -> State:
        begun = _drawn(specs, run.seed, mesh) if weights is None else trained
        return fresh_state(begun, declared, optimizer, mesh)

    return Task(mesh, fresh, steps, frozen, lambda step: step_flops(run, specs, run.length(step)))


class _Loop:
    """A run under way.

    Attributes:
      step: steps done.
      skipped: batches that were passed over before it.
      judged: steps whose losses were looked at.
    """

    def __init__(self, run: Run, data: Data, task: Task, store: Store, report: Report, members: Members | None) -> None:
        self.run, self.data, self.task, self.store, self.report, self.members = run, data, task, store, report, members
        self.rollbacks = 0
        self.replay = Replay(task.steps, self._batches, run.guard.replay_every, run.guard.replay_steps)
        self.state = task.fresh()
        self.like: Any = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), self.state
        )
        self.step, self.skipped = self._from_memory() or self._restore()

    def go_to(self, last: int, burst: int, save_every: int, stop: Callable[[], bool]) -> None:
        """Take steps up to `last`, and save."""

        every = self.run.guard.memory_every if self.members else 0

        def is_kept(step: int) -> bool:
            return every > 0 and step % every == 0

        def is_border(step: int) -> bool:
            return step % save_every == 0 or is_kept(step) or self.replay.is_border(step)

        while self.step < last:
            steps = next_group(self.run, self.step, last, burst, is_border)
            self._take(steps)
            stopping = _agreed(stop())
            saving = steps.stop % save_every == 0 or steps.stop == last or stopping
            if saving or is_kept(steps.stop):
                self.report.finish()
            if not self._went_back():
                self._keep(saving, is_kept(steps.stop))
            if stopping and self.step < last:
                raise Interrupted(f"stopped after step {self.step} of {self.run.steps}")

    def _take(self, steps: range) -> None:
        self.state, done, faults = self.replay(steps, self.state)
        self.step = steps.stop
        for fault in faults:
            self.report.event(f"{fault}; computed again")
        if done[0][0].start < steps.start:
            self.report.finish()
            self.report.go_back(done[0][0].start)
        for taken, measures in done:
            self.report.begun(taken, measures)

    def _batches(self, steps: range) -> Batch:
        """Those of some steps, stacked, each row on its device."""
        length, rows = self.run.length(steps.start), self.run.rows(steps.start)
        found = [self.data.batch(step + self.skipped, rows, length) for step in steps]
        largest = max(int(np.max(batch.inputs)) for batch in found)
        if largest >= self.run.model.vocab_size:  # a gather would take another row, and nobody would see
            raise ValueError(
                f"step {steps.start}: token {largest} in the data, where model.vocab_size is "
                f"{self.run.model.vocab_size}; tokenizer and model do not belong together"
            )
        return jax.tree.map(lambda *parts: place(np.stack(parts), self.task.mesh, BATCHES), *found)

    def _went_back(self) -> bool:
        """Whether a loss that was reported sent the run back."""
        found = trouble(self.report.losses, self.judged, self.run.guard)
        self.judged = len(self.report.losses)
        if found is None:
            return False
        step, why = found
        self.rollbacks += 1
        if self.rollbacks > self.run.guard.rollbacks:
            back = f", after {self.rollbacks - 1} times back" if self.rollbacks > 1 else ""
            raise Diverged(f"step {step}: {why}{back}; lower the rate, or see the data", step + self.skipped)
        after = step + self.skipped + 1
        self.store.wait()
        self.step, skipped = self._restore()
        self.replay.forget()
        self.report.event(f"step {step}: {why}; back to step {self.step}, batches up to {after - 1} are passed over")
        self.skipped = max(skipped, after - self.step)
        return True

    def _restore(self) -> tuple[int, int]:
        """Take the newest state in the store, or a fresh one. Its steps, and the batches passed over before."""
        step, skipped = 0, 0
        if saved := self.store.steps():
            step, kept = saved[-1], self.store.notes(saved[-1])
            check_same(kept["run"], self.run, self.store.folder)
            self.state, skipped = self.store.restore(step, self.like), kept["skipped"]
        elif int(self.state.step):
            self.state = self.task.fresh()
        self.report.go_back(step)
        self.judged = step
        return step, skipped

    def _from_memory(self) -> tuple[int, int] | None:
        """Take the state that the processes hold, if it is newer than what is stored. As `_restore`."""
        step = self.members.step if self.members else None
        if self.members is None or step is None or step < max(self.store.steps(), default=0):
            return None
        self.state = self.members.replicas.state(step, self.like)
        self.report.go_back(step)
        self.report.event(f"all processes met again; on from step {step}, out of memory")
        self.judged = step
        return step, self.members.replicas.parts(step).notes["skipped"]

    def _keep(self, saving: bool, keeping: bool) -> None:
        """The state, in a checkpoint and in memory."""
        if saving:
            self.store.save(self.step, self.state, {"run": deciding(self.run), "skipped": self.skipped})
        if keeping and self.members:
            self.members.replicas.keep(self.step, self.state, {"skipped": self.skipped})


def _agreed(stopping: bool) -> bool:
    """Whether any process was asked to stop: they must not part."""
    if jax.process_count() == 1:
        return stopping
    from jax.experimental import multihost_utils

    return bool(np.any(multihost_utils.process_allgather(np.array(stopping))))


def next_group(run: Run, first: int, last: int, burst: int, is_border: Callable[[int], bool]) -> range:
    """At most `burst` steps whose rows are equally long, that end at the next border."""
    end = min(first + burst, last)
    lengths = run.length(first)
    return range(
        first,
        next((step for step in range(first + 1, end) if is_border(step) or run.length(step) != lengths), end),
    )


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
