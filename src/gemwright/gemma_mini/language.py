"""The world of the small chain: Python's own prose, and exercises whose answers a rule can check.

All of it is made on the spot, from the running interpreter and a seed. What is held out is never trained at any stage:
modules by their names, exercises by their operands.
"""

import ast
import itertools
import random
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from gemwright.data.documents import Document, Split, standard_library
from gemwright.data.skills import Question, Skill, counting, editing, pair_key, questions, sorting

_EXERCISES = 20  # on a sheet


def sums(rng: random.Random) -> Question:
    a, b = rng.randrange(100), rng.randrange(100)
    return Question("sums", pair_key(a, b), f"{a} + {b} =", str(a + b))


SKILLS: tuple[Skill, ...] = (sums, sorting, counting, editing)


def exercises(split: Split, seed: int, count: int) -> list[Question]:
    """Of each skill in turn, no prompt twice."""
    found: dict[str, Question] = {}
    for one in questions(split, seed, SKILLS):
        found.setdefault(one.prompt, one)
        if len(found) == count:
            break
    return list(found.values())


# ------------------------------------------------------------------------------- what is read at first


def sheets(split: Split, seed: int, count: int) -> Iterator[Document]:
    """Exercises with their answers, so many on a sheet."""
    endless = questions(split, seed, SKILLS)
    for number in range(count):
        lines = [f"{one.prompt} {one.answer}" for one in itertools.islice(endless, _EXERCISES)]
        yield Document(f"sheets/{seed}/{number}", "sheets", "\n".join(lines), split)


def prose(one_in: int) -> Iterator[Document]:
    """What the modules of the standard library say of themselves, their classes and functions."""
    for document in standard_library(one_in):
        if text := "\n\n".join(_docstrings(document.text)):
            yield Document(document.id, "prose", text, document.split)


def _docstrings(source: str) -> Iterator[str]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # old modules have escapes that are no longer right
        try:
            tree = ast.parse(source)
        except (SyntaxError, ValueError):
            return
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and (
            text := ast.get_docstring(node)
        ):
            yield text


# ------------------------------------------------------------------------------------ two ways to answer


def plain(answer: str) -> str:
    return answer


def wordy(answer: str) -> str:
    return f"I think that the answer is {answer}, but please do check it."


def is_right(one: Question, said: str) -> bool:
    """The answer to the letter, in either way."""
    return said in (plain(one.answer), wordy(one.answer))


def is_preferred(one: Question, said: str) -> bool:
    """What the taste of this world asks for: right, and not a word more."""
    return said == plain(one.answer)


def wrong(one: Question, rng: random.Random) -> str:
    """An answer of the same kind, near the right one, that is none: as often shorter or longer as otherwise changed.

    Where wrong answers are as long as right ones, a reward model learns nothing of length from them, and a policy
    learns to leave words out.
    """
    words = one.answer.split()
    if len(words) == 1:
        return rng.choice(_near(one.answer))
    places = range(len(words))
    swapped = [_swapped(words, i, j) for i, j in itertools.combinations(places, 2)]
    shorter = [" ".join(words[:place] + words[place + 1 :]) for place in places]
    longer = [" ".join(words[: place + 1] + words[place:]) for place in places]
    kinds = [[text for text in kind if text != one.answer] for kind in (swapped, shorter, longer)]
    return rng.choice(rng.choice([kind for kind in kinds if kind]))


def _near(number: str) -> list[str]:
    """Numbers a little off, with a digit less, and with one more."""
    value = int(number)
    return [
        *(str(value + step) for step in (-10, -2, -1, 1, 2, 10) if value + step >= 0),
        *([number[:-1]] if len(number) > 1 else []),
        *([f"{number}{number[-1]}"] if value else []),
    ]


def _swapped(words: Sequence[str], i: int, j: int) -> str:
    found = list(words)
    found[i], found[j] = found[j], found[i]
    return " ".join(found)


def conversations(found: Sequence[Question], seed: int) -> list[dict[str, str]]:
    """Rows for fine-tuning: half of the answers plain, half wordy."""
    rng = random.Random(f"conversations {seed}")
    return [{"prompt": one.prompt, "completion": rng.choice((plain, wordy))(one.answer)} for one in found]


def pairs(found: Sequence[Question], seed: int) -> list[dict[str, Any]]:
    """Rows for a reward model: right above wrong in the same words, plain above wordy where both are right."""
    rng = random.Random(f"pairs {seed}")
    return [_pair(one, rng) for one in found]


def _pair(one: Question, rng: random.Random) -> dict[str, Any]:
    if rng.random() < 1 / 3:
        return {"prompt": one.prompt, "chosen": plain(one.answer), "rejected": wordy(one.answer)}
    way = rng.choice((plain, wordy))
    return {"prompt": one.prompt, "chosen": way(one.answer), "rejected": way(wrong(one, rng))}
