"""Sums, differences and products of whole numbers, worked out column by column as on paper.

Small transformers learn the columns from thousands of examples, the bare result from millions (Lee et al. 2023,
arXiv 2307.03381).
"""

import random
from collections.abc import Sequence

from gemwright.data.skills.question import Question, pair_key


def addition(rng: random.Random) -> Question:
    a, b = rng.randrange(1000), rng.randrange(1000)
    return Question("addition", pair_key(a, b), f"{a} + {b} =", str(a + b), added(a, b))


def subtraction(rng: random.Random) -> Question:
    b, a = sorted((rng.randrange(1000), rng.randrange(1000)))
    return Question("subtraction", pair_key(a, b), f"{a} - {b} =", str(a - b), subtracted(a, b))


def multiplication(rng: random.Random) -> Question:
    a, b = rng.randrange(100), rng.randrange(100)
    return Question("multiplication", pair_key(a, b), f"{a} * {b} =", str(a * b), multiplied(a, b))


def calculation(rng: random.Random) -> Question:
    """Any of the three, with as many digits as is drawn, up to four, and differences below zero too."""
    a, b = _any_size(rng, 4), _any_size(rng, 4)
    operation = rng.choice("+-*")
    if operation == "+":
        return Question("addition", pair_key(a, b), f"{a} + {b} =", str(a + b), added(a, b))
    if operation == "-":
        return Question("subtraction", pair_key(a, b), f"{a} - {b} =", str(a - b), _difference(a, b))
    a, b = _any_size(rng, 3), _any_size(rng, 2)
    return Question("multiplication", pair_key(a, b), f"{a} * {b} =", str(a * b), multiplied(a, b))


def _any_size(rng: random.Random, digits: int) -> int:
    return rng.randrange(10 ** rng.randint(1, digits))


# ------------------------------------------------------------------------------------- the working


def added(a: int, b: int) -> str:
    """Columns from the right: 47 + 86 is "7+6=13, 4+8+1=13"."""
    columns: list[str] = []
    carry = 0
    for above, below in _columns(a, b):
        total = above + below + carry
        columns.append(f"{above}+{below}{f'+{carry}' if carry else ''}={total}")
        carry = total // 10
    return ", ".join(columns)


def subtracted(a: int, b: int) -> str:
    """Columns from the right, ten borrowed where one falls short: 86 - 47 is "16-7=9, 8-1-4=3"."""
    columns: list[str] = []
    borrowed = 0
    for above, below in _columns(a, b):
        short = above - borrowed < below
        taken = f"{above + 10 * short}{f'-{borrowed}' if borrowed else ''}-{below}"
        columns.append(f"{taken}={above + 10 * short - borrowed - below}")
        borrowed = int(short)
    return ", ".join(columns)


def _difference(a: int, b: int) -> str:
    """Below zero the other way round first: 47 - 86 is "16-7=9, 8-1-4=3: 39"."""
    return subtracted(a, b) if a >= b else f"{subtracted(b, a)}: {b - a}"


def multiplied(a: int, b: int) -> str:
    """The first number times each digit of the second but zero, and their sum: a line each."""
    tens, ones = divmod(b, 10)
    parts = [(digit, power) for digit, power in ((ones, 1), (tens, 10)) if digit] or [(0, 1)]
    lines = [f"{times(a, digit)}: {a * digit * power}" for digit, power in parts]
    if len(parts) > 1:
        lines.append(added(a * ones, a * tens * 10))
    return "\n".join(lines)


def times(a: int, digit: int) -> str:
    """Columns from the right: 47 times 6 is "7*6=42, 4*6+4=28"."""
    columns: list[str] = []
    carry = 0
    for place in reversed(str(a)):
        total = int(place) * digit + carry
        columns.append(f"{place}*{digit}{f'+{carry}' if carry else ''}={total}")
        carry = total // 10
    return ", ".join(columns)


def _columns(a: int, b: int) -> Sequence[tuple[int, int]]:
    """Digits above each other, from the right; a shorter number begins with zeros."""
    width = max(len(str(a)), len(str(b)))
    return [(int(x), int(y)) for x, y in zip(f"{a:0{width}}"[::-1], f"{b:0{width}}"[::-1], strict=True)]
