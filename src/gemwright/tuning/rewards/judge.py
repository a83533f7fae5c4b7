"""A model as judge: it is asked by a template, and its words are read as a grade or as a preference."""

import random
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from gemwright.tuning.rewards.reward import Judged, Reward, Task

Ask = Callable[[Sequence[str]], list[str]]
"""From questions to a model's answers."""

GRADE = """Here is a task and an answer to it.

Task: {prompt}

Answer: {answer}

How good is the answer, from 0 (useless) to 10 (could not be better)? Say the number alone."""

COMPARE = """Here is a task and two answers to it.

Task: {prompt}

A: {first}

B: {second}

Which answer is better? Say A, B or tie alone."""

_GRADE = re.compile(r"\b(10|\d)(?:\.(\d+))?\b")
_CHOICE = re.compile(r"\b(A|B|[Tt]ie)\b")


@dataclass(frozen=True)
class Judge:
    """A model's grade as a reward, 0 to 1.

    Attributes:
      template: asks for a number from 0 to 10, with {prompt} and {answer} in it.
    """

    ask: Ask
    template: str = GRADE
    name: str = "judge"

    def needs(self, task: Task) -> None:
        """Nothing of the row."""

    def __call__(self, tasks: Sequence[Task], answers: Sequence[str]) -> list[Judged]:
        said = self.ask(
            [_filled(self.template, prompt=t.prompt, answer=a) for t, a in zip(tasks, answers, strict=True)]
        )
        return [self._grade(task, one) for task, one in zip(tasks, said, strict=True)]

    def _grade(self, task: Task, said: str) -> Judged:
        found = _GRADE.search(said)
        if found is None:
            return Judged.failed(task, f"judge: expected a number from 0 to 10, found {said[:80]!r}")
        return Judged(min(float(f"{found[1]}.{found[2] or 0}"), 10.0) / 10)


Compare = Callable[[Sequence[Task], Sequence[str], Sequence[str]], list[float]]
"""From tasks, answers and other answers to how often the first is preferred: 1, 0, or 0.5 for a tie."""


def asked_to_compare(ask: Ask, seed: int = 0, template: str = COMPARE) -> Compare:
    """A model that is shown both answers side by side, in an order drawn by the seed; what it does not say is a tie."""

    def compare(tasks: Sequence[Task], ours: Sequence[str], theirs: Sequence[str]) -> list[float]:
        rng = random.Random(seed)
        turned = [rng.random() < 0.5 for _ in tasks]
        shown = [(b, a) if turn else (a, b) for turn, a, b in zip(turned, ours, theirs, strict=True)]
        said = ask(
            [_filled(template, prompt=t.prompt, first=a, second=b) for t, (a, b) in zip(tasks, shown, strict=True)]
        )
        return [_preferred(one, turn) for one, turn in zip(said, turned, strict=True)]

    return compare


def by_reward(reward: Reward) -> Compare:
    """Another reward as rater: the answer that it gives more is preferred; a fault is a tie."""

    def compare(tasks: Sequence[Task], ours: Sequence[str], theirs: Sequence[str]) -> list[float]:
        pairs = zip(reward(tasks, ours), reward(tasks, theirs), strict=True)
        return [0.5 if a.fault or b.fault or a.value == b.value else float(a.value > b.value) for a, b in pairs]

    return compare


def _preferred(said: str, turned: bool) -> float:
    found = _CHOICE.search(said)
    if found is None or found[1].lower() == "tie":
        return 0.5
    return float((found[1] == "A") != turned)


def _filled(template: str, **texts: str) -> str:
    """Texts in the places of their names; braces in them stay what they are."""
    return re.sub(r"\{(\w+)\}", lambda found: texts.get(found[1], found[0]), template)
