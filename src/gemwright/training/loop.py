"""The loop: steps, progress, checkpoints, a loss curve. Interrupted, it resumes where it was."""

import json
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol, TextIO

import jax
import jax.numpy as jnp
import numpy as np
import optax
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.numpy import load_file, save_file

from gemwright.core.module import initialise
from gemwright.core.trainable import join, specs_like, split
from gemwright.data.packing import Batch
from gemwright.models.family import Decoder, specs_of
from gemwright.training.optimizer import make_optimizer
from gemwright.training.run import Run
from gemwright.training.step import State, make_burst, make_step

BURST = 50
"""Steps of one program on an accelerator."""


class Data(Protocol):
    """Batches by their number: the same for the same number, whatever came before."""

    def batch(self, step: int, rows: int, length: int) -> Batch: ...


class Interrupted(Exception):
    """Asked to stop, and all is saved."""


class NotFinite(ValueError):
    """The loss of a step is no number; the state saved last is from before it."""

    def __init__(self, step: int, loss: float) -> None:
        super().__init__(f"step {step}: the loss is {loss}, expected a number")
        self.step = step


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
    """Train, or go on training where `folder` left off, and return the weights.

    Args:
      run: the recipe.
      data: the text, in rows of the lengths that the stages ask for.
      folder: receives `state.safetensors` (what is trained and its optimizer; replaced every `save_every` steps and
        at the end), `losses.jsonl` (a line a step) and `loss.png`.
      weights: to begin with, adapted or not; drawn by the run's seed unless given.
      is_trained: by the name of a leaf, whether it is trained; all are unless given.
      until: stop after this step instead of at the run's end.
      burst: steps of one program; by default 1 on a CPU, whose cores share them, and `BURST` on an accelerator.
      stop: asked after each program; once it says so, the state is saved.

    Raises:
      ValueError: if the folder holds the state of another run.
      NotFinite: if a loss is no number.
      Interrupted: after `stop`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    specs = specs_of(run.model)
    trained, frozen = initialise(specs, run.seed) if weights is None else weights, None
    if is_trained is not None:
        trained, frozen = split(trained, is_trained)
    trained = jax.tree.map(jnp.copy, trained)  # steps give up what they are given; a caller's arrays stay
    optimizer = make_optimizer(run, specs_like(specs, trained))
    state = State(trained, optimizer.init(trained), jnp.zeros((), jnp.int32))  # pyright: ignore[reportArgumentType]
    state = restore(state, folder / "state.safetensors")
    burst = burst or (1 if jax.default_backend() == "cpu" else BURST)
    steps_function = _steps_function(run, optimizer, burst, frozen)
    first, last = int(state.step), min(run.steps, until or run.steps)
    trim(folder / "losses.jsonl", first)
    with progress_bar() as progress, (folder / "losses.jsonl").open("a", buffering=1) as log:
        report = Report(log, progress, run.tokens_per_step, first, last)
        for steps in groups(run, first, last, burst, save_every):
            state, losses = steps_function(state, _batches(run, data, steps))
            report.begun(steps, losses)
            stopping = stop()
            if steps.stop % save_every == 0 or steps.stop == last or stopping:
                report.finish()
                save(state, folder / "state.safetensors")
            if stopping and steps.stop < last:
                raise Interrupted(f"stopped after step {steps.stop} of {run.steps}")
    plot_losses(folder)
    return state.weights if frozen is None else join(state.weights, frozen)


def groups(run: Run, first: int, last: int, burst: int, save_every: int) -> Iterator[range]:
    """Runs of at most `burst` steps whose rows are equally long, ending where a state is saved."""
    while first < last:
        end = min(first + burst, last, first - first % save_every + save_every)
        end = next((step for step in range(first, end) if run.length(step) != run.length(first)), end)
        yield range(first, end)
        first = end


def _steps_function(
    run: Run, optimizer: optax.GradientTransformation, burst: int, frozen: Decoder | None
) -> Callable[[State, Batch], tuple[State, jax.Array]]:
    """From a state and the stacked batches of some steps to the state after them and their losses."""
    if burst > 1:
        return make_burst(run.model, optimizer, frozen)
    rows = math.gcd(*(run.tokens_per_step // stage.length for stage in run.stages))
    step = make_step(run.model, optimizer, rows, frozen=frozen)
    return lambda state, batches: step(state, jax.tree.map(lambda part: part[0], batches))


def _batches(run: Run, data: Data, steps: range) -> Batch:
    length = run.length(steps.start)
    batches = [data.batch(step, run.tokens_per_step // length, length) for step in steps]
    return jax.tree.map(lambda *parts: np.stack(parts), *batches)


class Report:
    """Losses to the log and the progress bar, read once the next steps are under way: the device does not wait."""

    def __init__(self, log: TextIO, progress: Progress, tokens: int, first: int, last: int) -> None:
        self.log, self.progress, self.tokens = log, progress, tokens
        self.task = progress.add_task("train", total=last, completed=first, loss=float("nan"), rate=0.0)
        self.waiting: tuple[range, jax.Array] | None = None
        self.time = time.perf_counter()

    def begun(self, steps: range, losses: jax.Array) -> None:
        """Steps were given to the device; report those before them."""
        self.finish()
        self.waiting = (steps, losses)

    def finish(self) -> None:
        """Report what was begun, when it is done."""
        if self.waiting is None:
            return
        steps, losses = self.waiting
        values = np.atleast_1d(np.asarray(losses)).tolist()
        now, self.waiting = time.perf_counter(), None
        seconds, self.time = (now - self.time) / len(steps), now
        for number, value in zip(steps, values, strict=True):
            if not math.isfinite(value):
                raise NotFinite(number, value)
            self.log.write(json.dumps({"step": number, "loss": round(value, 5), "seconds": round(seconds, 3)}) + "\n")
        self.log.flush()
        self.progress.update(self.task, advance=len(steps), loss=values[-1], rate=self.tokens / seconds)


def save(state: State, path: Path) -> None:
    """Write a state beside its place and move it there, so that a kill never leaves half a file."""
    leaves = {str(index): np.asarray(leaf) for index, leaf in enumerate(jax.tree.leaves(state))}
    half = path.with_suffix(".partial")
    save_file(leaves, half)
    half.replace(path)


def restore(fresh: State, path: Path) -> State:
    """The state saved at `path`, or the fresh one if nothing was saved yet."""
    if not path.exists():
        return fresh
    stored = load_file(path)
    leaves, tree = jax.tree.flatten(fresh)
    found = [stored.get(str(index)) for index in range(len(leaves))]
    for index, (leaf, value) in enumerate(zip(leaves, found, strict=True)):
        if value is None or value.shape != leaf.shape or len(stored) != len(leaves):
            raise ValueError(f"{path}: state of another run (leaf {index}); expected {leaf.shape}. Use another folder.")
    return jax.tree.unflatten(tree, [jnp.asarray(value) for value in found])


def read_losses(folder: Path) -> list[float]:
    """The loss of each step so far, in nats a token."""
    with (folder / "losses.jsonl").open() as lines:
        return [json.loads(line)["loss"] for line in lines]


def plot_losses(folder: Path) -> None:
    """Draw `loss.png`: every step, and a running mean."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        Console(stderr=True).print("no loss plot: pip install 'gemwright\\[plot]' to get one")
        return
    losses = np.array(read_losses(folder))
    width = max(1, len(losses) // 100)
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot(losses, linewidth=0.4, alpha=0.5, label="each step")
    means = np.convolve(losses, np.ones(width) / width, mode="valid")
    axes.plot(np.arange(len(means)) + width - 1, means, label=f"mean of {width} steps")
    axes.set(xlabel="step", ylabel="loss (nats a token)")
    axes.legend()
    figure.savefig(folder / "loss.png", dpi=110)


def trim(log: Path, steps: int) -> None:
    """Drop the lines of steps that were done but not saved: they are done again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(lines[:steps]))


def progress_bar() -> Progress:
    """Steps done, the loss, the speed and the time that is left, on the terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:,.0f} tokens/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
