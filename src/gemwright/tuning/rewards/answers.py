"""Rewards of answers that are right or wrong: 1 or 0."""

import re
from decimal import Decimal, InvalidOperation

from gemwright.tuning.rewards.reward import ByRule, Task

_NUMBER = re.compile(r"[-+]?(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|[-+]?\.\d+")


def exact() -> ByRule:
    """1 if an answer is the row's `answer`, but for white space and a full stop at the end."""
    return ByRule("exact", lambda task, said: float(_plain(said) == _plain(task.text("answer"))), "answer")


def number() -> ByRule:
    """1 if the last number of an answer is the last one of the row's `answer`: reasoning may stand before it."""
    return ByRule("number", _same_number, "answer")


def last_number(text: str) -> Decimal | None:
    """The number that a text ends with, commas of thousands taken out; None if it has none."""
    found = _NUMBER.findall(text)
    try:
        return Decimal(found[-1].replace(",", "")) if found else None
    except InvalidOperation:  # digits of other scripts, thousands of them
        return None


def _same_number(task: Task, said: str) -> float:
    right = last_number(task.text("answer"))
    if right is None:
        raise ValueError(f"expected a number in the row's answer, found {task.text('answer')!r}")
    return float(last_number(said) == right)


def _plain(text: str) -> str:
    return " ".join(text.split()).removesuffix(".")
