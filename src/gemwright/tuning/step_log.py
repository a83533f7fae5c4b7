"""The steps of a run that are done: a bar with the time that is left, a line a step in a file."""

import json
import math
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

STEPS, FAULTS = "steps.jsonl", "faults.jsonl"


class StepLog:
    """Kept in a folder.

    Attributes:
      records: one a step; what is no number is None.
    """

    def __init__(self, folder: Path, title: str, last: int, shown: Sequence[str]) -> None:
        """Begin with the steps that the folder has.

        Args:
          last: steps of the run.
          shown: numbers of a step that stand beside the bar.
        """
        self.records: list[dict[str, Any]] = []
        self._folder, self._shown = folder, shown
        self._progress = Progress(
            TextColumn(title),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._task = self._progress.add_task(title, total=last, told="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def go_back(self, step: int) -> None:
        """Forget what came after so many steps; they are done again."""
        for name in (STEPS, FAULTS):
            path = self._folder / name
            lines = path.read_text().splitlines() if path.exists() else []
            kept = [line for line in lines if json.loads(line)["step"] < step]
            path.write_text("".join(line + "\n" for line in kept))
            if name == STEPS:
                self.records = [json.loads(line) for line in kept]
        self._progress.update(self._task, completed=step)

    def add(self, number: int, told: Mapping[str, Any]) -> None:
        """A step is done."""
        record = {"step": number, **{name: _exact(value) for name, value in told.items()}}
        self.records.append(record)
        with (self._folder / STEPS).open("a") as log:
            log.write(json.dumps(record) + "\n")
        shown = "  ".join(f"{name} {told[name]:.3f}" for name in self._shown)
        self._progress.update(self._task, completed=number + 1, told=shown)

    def fault(self, number: int, reasons: Sequence[str]) -> None:
        """What went wrong in a step."""
        with (self._folder / FAULTS).open("a") as log:
            log.writelines(json.dumps({"step": number, "reason": reason}) + "\n" for reason in reasons)

    def leave(self, out: Path) -> None:
        """Copies beside the result."""
        for name in (STEPS, FAULTS):
            path = self._folder / name
            if path.exists() and path.stat().st_size:
                shutil.copy(path, out / name)


def _exact(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return float(f"{value:.6g}") if math.isfinite(value) else None
