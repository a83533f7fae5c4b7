"""Units and dates, written in another way."""

import datetime
import random

from gemwright.data.skills.arithmetic import times
from gemwright.data.skills.question import Question

_DECIMAL = (
    ("km", "m", 3),
    ("m", "cm", 2),
    ("m", "mm", 3),
    ("cm", "mm", 1),
    ("kg", "g", 3),
    ("t", "kg", 3),
    ("l", "ml", 3),
)
"""The larger unit, the smaller, and the power of ten between them."""

_SIXTIETHS = (("hours", "minutes"), ("minutes", "seconds"))
_FIRST_DAY, _DAYS = datetime.date(1900, 1, 1).toordinal(), 365 * 200


def units(rng: random.Random) -> Question:
    if rng.random() < 0.25:
        larger, smaller = rng.choice(_SIXTIETHS)
        count = rng.randint(1, 99)
        return _conversion(count, larger, smaller, str(count * 60), times(count, 6))
    larger, smaller, power = rng.choice(_DECIMAL)
    count = rng.randint(1, 999)
    if rng.random() < 0.5:
        return _conversion(count, larger, smaller, str(count * 10**power))
    digits = f"{count:0{power + 1}}"
    whole, part = digits[:-power], digits[-power:].rstrip("0")
    return _conversion(count, smaller, larger, f"{whole}.{part}" if part else whole)


def _conversion(count: int, given: str, asked: str, value: str, working: str = "") -> Question:
    return Question("units", f"{count} {given}", f"Convert {count} {given} to {asked}.", f"{value} {asked}", working)


def dates(rng: random.Random) -> Question:
    day = datetime.date.fromordinal(_FIRST_DAY + rng.randrange(_DAYS))
    (_, shown), (name, asked) = rng.sample(tuple(_ways(day).items()), 2)
    return Question("dates", day.isoformat(), f"Write {shown} {name}.", asked)


def _ways(day: datetime.date) -> dict[str, str]:
    """How a day is asked for, and the day so written."""
    return {
        "in numbers": day.isoformat(),
        "with the day first": f"{day.day} {day:%B} {day.year}",
        "with the month first": f"{day:%B} {day.day}, {day.year}",
    }
