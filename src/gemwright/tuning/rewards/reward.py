"""What a reward is: from tasks and answers to numbers, and to faults where there is none."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from gemwright.text.chat import Message


@dataclass(frozen=True)
class Task:
    """A prompt, and what its row says beside it.

    Attributes:
      messages: end with the user's.
      row: all fields of the row: the right answer, tests, a query.
      place: file and row.
    """

    messages: Sequence[Message]
    row: Mapping[str, Any] = field(default_factory=dict[str, Any])
    place: str = ""

    @property
    def prompt(self) -> str:
        """The last turn."""
        return "".join(map(str, self.messages[-1].parts))

    def text(self, key: str) -> str:
        """A field that a reward needs.

        Raises:
          ValueError: if the row has none, or no text or number; says what to do.
        """
        value = self.row.get(key)
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"{self.place}: expected a text or a number as {key!r}, found {value!r}")
        return str(value)


@dataclass(frozen=True)
class Judged:
    """A reward, or why there is none.

    Attributes:
      value: NaN with a fault.
      fault: what went wrong with the rewarding; a wrong answer is none, its reward is low.
    """

    value: float
    fault: str = ""

    @staticmethod
    def failed(task: Task, fault: str) -> "Judged":
        return Judged(math.nan, f"{task.place}: {fault}")


class Reward(Protocol):
    """Judges answers, each with its task."""

    @property
    def name(self) -> str: ...

    def needs(self, task: Task) -> None:
        """Raises ValueError if the task's row lacks what the reward needs: asked of all rows before a run."""
        ...

    def __call__(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Judged]: ...


@dataclass(frozen=True)
class ByRule:
    """A reward of single answers by a function that ends soon.

    Attributes:
      rule: (task, answer) -> reward; what it raises is a fault of that answer's.
      field: of the row, that the rule reads; empty where it reads none.
    """

    name: str
    rule: Callable[[Task, str], float]
    field: str = ""

    def needs(self, task: Task) -> None:
        if self.field:
            task.text(self.field)

    def __call__(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Judged]:
        return [self._one(task, answer) for task, answer in zip(tasks, answers, strict=True)]

    def _one(self, task: Task, answer: str) -> Judged:
        try:
            return checked(task, self.rule(task, answer))
        except Exception as error:  # whatever a rule does, the run must not end by it
            return Judged.failed(task, f"reward {self.name} raised {type(error).__name__}: {error}")


def checked(task: Task, value: Any) -> Judged:
    """A reward that is a finite number, or a fault."""
    if isinstance(value, bool):
        value = float(value)
    if not isinstance(value, int | float) or not math.isfinite(value):
        return Judged.failed(task, f"expected a finite number as reward, found {value!r}")
    return Judged(float(value))
