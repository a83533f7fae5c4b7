"""What a run tells while it goes on: a progress bar, a line a step in `losses.jsonl`, a plot."""

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from gemwright.training.board import Board
from gemwright.training.costs import Costs
from gemwright.training.step import Measures

LOSSES = "losses.jsonl"
EVENTS = "events.jsonl"
"""What went wrong, and what was done."""


@dataclass
class Report:
    """Measures to the log and the progress bar, read once the next steps are under way: the device does not wait.

    Attributes:
      tokens: of a step.
      flops: of a step by its number, and `peak` of all devices a second; their quotient over time is the MFU. No
        peak shows none.
      shown: whether this process draws and writes; one of several does.
      costs: are kept, and told beside the speed.
    """

    folder: Path
    tokens: int
    last: int
    flops: Callable[[int], float] = lambda step: 0.0
    peak: float | None = None
    shown: bool = True
    costs: Costs | None = None
    losses: list[float] = field(default_factory=list[float])
    _waiting: tuple[range, Measures] | None = None

    def __enter__(self) -> Self:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]:.3f}  {task.fields[rate]:,.0f} tokens/s{task.fields[beside]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            disable=not self.shown,
        )
        self._progress.start()
        self._task = self._progress.add_task("train", total=self.last, loss=float("nan"), rate=0.0, beside="")
        self._time, self._board = time.perf_counter(), Board(self.folder)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()
        self._board.close()

    def go_back(self, step: int) -> None:
        """Forget what came after so many steps; they are done again."""
        if self.shown:
            trim(self.folder / LOSSES, step)
            self._board.begin(step)
        self._waiting, self._time = None, time.perf_counter()
        self.losses = read_losses(self.folder)[:step] if (self.folder / LOSSES).exists() else []
        self._progress.update(self._task, completed=step)

    def say(self, text: str) -> None:
        """A line above the bar."""
        if self.shown:
            self._progress.console.print(text, markup=False, soft_wrap=True)

    def event(self, what: str) -> None:
        """Note it for the report, and say it."""
        self.say(what)
        if self.shown:
            with (self.folder / EVENTS).open("a") as log:
                log.write(json.dumps({"at": time.strftime("%Y-%m-%d %H:%M:%S"), "what": what}) + "\n")

    def begun(self, steps: range, measures: Measures) -> None:
        """Steps were given to the device; report those before them."""
        self.finish()
        self._waiting = (steps, measures)

    def finish(self) -> None:
        """Report what was begun, when it is done."""
        if self._waiting is None:
            return
        steps, measures = self._waiting
        found = jax.tree.map(lambda value: np.asarray(value).tolist(), measures)
        now, self._waiting = time.perf_counter(), None
        seconds, self._time = (now - self._time) / len(steps), now
        share = self.flops(steps.start) / seconds / self.peak if self.peak else None
        rows = zip(steps, found.loss, found.norm, found.changed, strict=True)
        self._write([_record(*row, seconds, share) for row in rows])
        self.losses += [_exact(loss) for loss in found.loss]
        for step, changed in zip(steps, found.changed, strict=True):
            if not changed:
                self.event(f"step {step}: loss or gradient is no number; the weights are left as they were")
        self._progress.update(
            self._task,
            completed=steps.stop,
            loss=found.loss[-1],
            rate=self.tokens / seconds,
            beside=("" if share is None else f"  {share:.0%} MFU") + (self.costs.told() if self.costs else ""),
        )

    def _write(self, records: list[dict[str, Any]]) -> None:
        if self.shown:
            with (self.folder / LOSSES).open("a") as log:
                log.writelines(json.dumps(record) + "\n" for record in records)
            for record in records:
                self._board.write(record, self.tokens)
            if self.costs is not None:
                self.costs.tick()


def _record(step: int, loss: float, norm: float, changed: bool, seconds: float, share: float | None) -> dict[str, Any]:
    """A step's line; what is no number is null."""
    sound = {name: _exact(value) if np.isfinite(value) else None for name, value in (("loss", loss), ("norm", norm))}
    rest = {} if share is None else {"mfu": float(f"{share:.3g}")}
    return {"step": step, **sound, "seconds": round(seconds, 4), **rest, **({} if changed else {"skipped": True})}


def _exact(value: float) -> float:
    """As few digits as tell a float32 from all others."""
    return float(f"{value:.9g}")


def read_losses(folder: Path) -> list[float]:
    """The loss of each step so far, in nats a token; NaN where it was none.

    Raises:
      ValueError: if a line is none of a log; names it.
    """
    found: list[float | None] = []
    with (folder / LOSSES).open("rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                found.append(json.loads(line)["loss"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{folder / LOSSES}, line {number}: expected a step's loss: {error}") from None
    return [float("nan") if loss is None else loss for loss in found]


def trim(log: Path, steps: int) -> None:
    """Drop the lines of steps that were done but not saved: they are done again."""
    if not log.exists():
        return
    lines = log.read_text().splitlines(keepends=True)
    if len(lines) > steps:
        half = log.with_suffix(".partial")
        half.write_text("".join(lines[:steps]))
        half.replace(log)


def plot_losses(folder: Path) -> bool:
    """Draw `loss.png`: every step, and a running mean. Whether it could."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        Console(stderr=True).print("no loss plot: pip install 'gemwright\\[plot]' to get one")
        return False
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
    return True
