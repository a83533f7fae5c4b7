"""A question whose answer a rule can check, and the endless row of them.

What is held out is never trained: a pair of operands, a list or a sentence falls on one side by its hash, and a pair in
both orders.
"""

import hashlib
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gemwright.data.documents import Split, split_of


@dataclass(frozen=True)
class Question:
    """One of a skill.

    Attributes:
      key: what is held out: the operands, whatever their order.
      working: how the answer is found, in lines before it: what a small model cannot see at once, it can work out.
    """

    skill: str
    key: str
    prompt: str
    answer: str
    working: str = ""

    @property
    def completion(self) -> str:
        """What a model is taught to say."""
        return f"{self.working}\n{self.answer}" if self.working else self.answer

    def is_right(self, said: str) -> bool:
        """Whether the last line is the answer to the letter."""
        return said.rpartition("\n")[2] == self.answer


Skill = Callable[[random.Random], Question]


def questions(split: Split, seed: int, skills: Sequence[Skill]) -> Iterator[Question]:
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
