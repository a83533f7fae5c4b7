"""A user's Python function as a reward, in a process of its own: it may raise or hang, the run goes on."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gemwright.tuning.rewards.reward import Judged, Task, checked

_WORKER = Path(__file__).with_name("worker.py")
_READING = 60.0  # seconds that the file may take to be read


@dataclass
class Function:
    """`def reward(prompt: str, answer: str, row: dict) -> float` of a file.

    Attributes:
      seconds: of one call; after them the process is ended, and another one begun for the next.
    """

    file: Path
    function: str
    seconds: float = 10.0
    _worker: "_Worker | None" = field(default=None, repr=False)

    @property
    def name(self) -> str:
        return f"{self.file.name}:{self.function}"

    def needs(self, task: Task) -> None:
        """Nothing that is known before; but the file must be there, and hold the function.

        Raises:
          ValueError: if it does not, or its reading fails.
        """
        if self._worker is None:
            self._worker = self._begun()

    def __call__(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Judged]:
        return [self._one(task, answer) for task, answer in zip(tasks, answers, strict=True)]

    def close(self) -> None:
        if self._worker:
            self._worker.end()
            self._worker = None

    def _one(self, task: Task, answer: str) -> Judged:
        if self._worker is None:
            self._worker = self._begun()
        told = self._worker.ask({"prompt": task.prompt, "answer": answer, "row": dict(task.row)}, self.seconds)
        if told is None:
            self.close()
            return Judged.failed(task, f"reward {self.name}: no answer within {self.seconds:g} s, or its process ended")
        if "fault" in told:
            return Judged.failed(task, f"reward {self.name} raised {told['fault']}")
        return checked(task, told["value"])

    def _begun(self) -> "_Worker":
        if not self.file.is_file():
            raise ValueError(f"{self.file}: expected a Python file with {self.function}, found no such file")
        worker = _Worker(self.file, self.function)
        told = worker.told(_READING)
        if told is None or "fault" in told:
            worker.end()
            why = "nothing was heard of it" if told is None else told["fault"]
            raise ValueError(f"{self.file}: function {self.function} cannot be had: {why}")
        return worker


class _Worker:
    """The other process. Its lines are read by a thread, so that waiting for one can end."""

    def __init__(self, file: Path, function: str) -> None:
        command = [sys.executable, str(_WORKER), str(file), function]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, encoding="utf-8", start_new_session=True,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )  # fmt: skip
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._listen, daemon=True).start()

    def ask(self, what: dict[str, Any], seconds: float) -> dict[str, Any] | None:
        """What it says; None if it has not within the time, or is no more."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(what, default=str) + "\n")
            self._process.stdin.flush()
        except OSError:
            return None
        return self.told(seconds)

    def told(self, seconds: float) -> dict[str, Any] | None:
        try:
            line = self._lines.get(timeout=seconds)
        except queue.Empty:
            return None
        return json.loads(line) if line else None

    def end(self) -> None:
        self._process.kill()
        self._process.communicate()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._lines.put(line)
        self._lines.put("")
