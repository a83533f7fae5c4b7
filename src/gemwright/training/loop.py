"""The loop: steps, progress, checkpoints, a loss curve. Interrupted, it resumes where it was."""

import json
import math
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from safetensors.numpy import load_file, save_file

from gemwright.core.module import initialise
from gemwright.data.packing import Rows
from gemwright.models.gemma import Gemma
from gemwright.training.optimizer import make_optimizer
from gemwright.training.run import Run
from gemwright.training.step import State, make_step


def train(run: Run, data: Rows, folder: Path, *, save_every: int = 100, until: int | None = None) -> Gemma:
    """Train, or go on training where `folder` left off, and return the weights.

    Args:
      run: the recipe.
      data: the text, in rows of the lengths that the stages ask for.
      folder: receives `state.safetensors` (replaced every `save_every` steps and at the end),
        `losses.jsonl` (a line a step) and `loss.png`.
      until: stop after this step instead of at the run's end.

    Raises:
      ValueError: if the folder holds the state of another run.
    """
    folder.mkdir(parents=True, exist_ok=True)
    specs = Gemma.specs(run.model)
    optimizer = make_optimizer(run, specs)
    weights = initialise(specs, run.seed)
    state = State(weights, optimizer.init(weights), jnp.zeros((), jnp.int32))  # pyright: ignore[reportArgumentType]
    state = restore(state, folder / "state.safetensors")
    rows = math.gcd(*(run.tokens_per_step // stage.length for stage in run.stages))
    step_function = make_step(run.model, optimizer, rows)
    first, last = int(state.step), min(run.steps, until or run.steps)
    _trim(folder / "losses.jsonl", first)
    with _progress() as progress, (folder / "losses.jsonl").open("a", buffering=1) as log:
        task = progress.add_task("train", total=last, completed=first, loss=float("nan"), rate=0.0)
        for number in range(first, last):
            begun = time.perf_counter()
            length = run.length(number)
            batch = data.batch(number, run.tokens_per_step // length, length)
            state, loss = step_function(state, batch)
            value, seconds = float(loss), time.perf_counter() - begun
            log.write(json.dumps({"step": number, "loss": round(value, 5), "seconds": round(seconds, 3)}) + "\n")
            progress.update(task, advance=1, loss=value, rate=run.tokens_per_step / seconds)
            if (number + 1) % save_every == 0 or number + 1 == last:
                log.flush()
                save(state, folder / "state.safetensors")
    plot_losses(folder)
    return state.weights


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


def _trim(log: Path, steps: int) -> None:
    """Drop the lines of steps that were done but not saved: they are done again."""
    if log.exists():
        lines = log.read_text().splitlines(keepends=True)
        log.write_text("".join(lines[:steps]))


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:,.0f} tokens/s"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
