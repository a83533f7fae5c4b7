"""Skills that a rule can check: questions with one right answer, without end.

What is held out is never trained: a pair of operands, a list or a sentence falls on one side by its hash, and a pair in
both orders.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gemwright.data.documents import Split, split_of

_WORDS = (
    *("apple", "river", "stone", "cloud", "table", "green", "horse", "light"),
    *("paper", "music", "garden", "window", "bread", "winter", "silver", "copper"),
)


@dataclass(frozen=True)
class Question:
    """One of a skill.

    Attributes:
      key: what is held out: the operands, whatever their order.
    """

    skill: str
    key: str
    prompt: str
    answer: str


def addition(rng: random.Random) -> Question:
    a, b = rng.randrange(1000), rng.randrange(1000)
    return Question("addition", pair_key(a, b), f"{a} + {b} =", str(a + b))


def subtraction(rng: random.Random) -> Question:
    b, a = sorted((rng.randrange(1000), rng.randrange(1000)))
    return Question("subtraction", pair_key(a, b), f"{a} - {b} =", str(a - b))


def multiplication(rng: random.Random) -> Question:
    a, b = rng.randrange(100), rng.randrange(100)
    return Question("multiplication", pair_key(a, b), f"{a} * {b} =", str(a * b))


def sorting(rng: random.Random) -> Question:
    numbers = rng.sample(range(100), rng.randint(3, 5))
    ordered = " ".join(map(str, sorted(numbers)))
    return Question("sorting", ordered, f"Sort: {' '.join(map(str, numbers))}", ordered)


def counting(rng: random.Random) -> Question:
    word = rng.choice(_WORDS)
    words = rng.choices([word, *rng.sample(_WORDS, 2)], k=rng.randint(3, 9))
    text = " ".join(words)
    return Question("counting", text, f"How often is {word} in: {text}?", str(words.count(word)))


def editing(rng: random.Random) -> Question:
    words = rng.sample(_WORDS, rng.randint(3, 6))
    old, new = rng.choice(words), rng.choice(_WORDS)
    text = " ".join(words)
    answer = " ".join(new if word == old else word for word in words)
    return Question("editing", f"{text} {old} {new}", f"Replace {old} by {new}: {text}", answer)


Skill = Callable[[random.Random], Question]

SKILLS: tuple[Skill, ...] = (
    addition,
    subtraction,
    multiplication,
    sorting,
    counting,
    editing,
)


def questions(split: Split, seed: int, skills: Sequence[Skill] = SKILLS) -> Iterator[Question]:
    """One of each skill in turn, without end; one in ten is held out by its operands alone."""
    rng = random.Random(f"{split} {seed}")
    while True:
        for skill in skills:
            found = skill(rng)
            while split_of(f"{found.skill} {found.key}", 10) != split:
                found = skill(rng)
            yield found


def fingerprint(found: list[Question]) -> str:
    """Of the questions, for the report."""
    return hashlib.sha256("\n".join(f"{one.prompt} {one.answer}" for one in found).encode()).hexdigest()[:16]


def pair_key(a: int, b: int) -> str:
    """Operands whose order does not count."""
    return f"{min(a, b)} {max(a, b)}"
