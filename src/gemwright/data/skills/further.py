"""Skills that the default model was not taught, near those that it was: for others' tuning to be measured by."""

import random

from gemwright.data.skills.arithmetic import added
from gemwright.data.skills.question import Question, Skill
from gemwright.data.skills.words import WORDS


def three_terms(rng: random.Random) -> Question:
    terms = [rng.randrange(100) for _ in range(3)]
    first = terms[0] + terms[1]
    working = f"{added(*terms[:2])}: {first}\n{added(first, terms[2])}"
    text = " + ".join(map(str, terms))
    return Question("three terms", " ".join(map(str, sorted(terms))), f"{text} =", str(sum(terms)), working)


def descending(rng: random.Random) -> Question:
    numbers = rng.sample(range(100), rng.randint(3, 5))
    ordered = " ".join(map(str, sorted(numbers, reverse=True)))
    return Question("descending", ordered, f"Sort down: {' '.join(map(str, numbers))}", ordered)


def largest(rng: random.Random) -> Question:
    numbers = rng.sample(range(1000), rng.randint(3, 6))
    text = " ".join(map(str, numbers))
    return Question("largest", text, f"Largest of: {text}", str(max(numbers)))


def reversing(rng: random.Random) -> Question:
    words = rng.sample(WORDS, rng.randint(3, 6))
    text = " ".join(words)
    return Question("reversing", text, f"Reverse: {text}", " ".join(reversed(words)))


def alphabetical(rng: random.Random) -> Question:
    words = rng.sample(WORDS, rng.randint(3, 5))
    ordered = " ".join(sorted(words))
    return Question("alphabetical", ordered, f"In alphabetical order: {' '.join(words)}", ordered)


FURTHER: tuple[Skill, ...] = (three_terms, descending, largest, reversing, alphabetical)
