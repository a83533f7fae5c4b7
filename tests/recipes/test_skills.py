"""Questions have one right answer, none held out is trained, and shares have honest intervals."""

import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gemwright.data.skills import SKILLS, Question, questions
from gemwright.model import Model
from recipes import skills

pytestmark = pytest.mark.usefixtures("quickly_compiled")


def some(split: Any, count: int = 1200, seed: int = 0) -> list[Question]:
    return list(itertools.islice(questions(split, seed), count))


def test_no_operands_are_on_both_sides_in_any_order() -> None:
    sides = [{(one.skill, one.key) for one in some(split)} for split in ("train", "heldout")]
    assert not sides[0] & sides[1]
    assert {skill for skill, _ in sides[1]} == {skill.__name__ for skill in SKILLS}
    pairs = {one.key for one in some("train") if one.skill == "addition"}
    assert all(int(a) <= int(b) for a, b in (key.split() for key in pairs))


def test_answers_are_right() -> None:
    """By another way than the generator's: Python reads the arithmetic, sets and lists the rest."""
    for one in some("heldout", 300):
        if one.prompt.endswith("="):
            assert eval(one.prompt.removesuffix("=")) == int(one.answer)
        elif one.skill == "sorting":
            assert sorted(one.prompt.split()[1:], key=int) == one.answer.split()
        elif one.skill == "counting":
            wanted, words = one.prompt.split()[3], one.prompt.split(": ")[1].removesuffix("?")
            assert f" {words} ".replace(" ", "  ").count(f" {wanted} ") == int(one.answer)
        else:
            _, old, _, new = one.prompt.split(":")[0].split()
            text = one.prompt.split(": ")[1].split()
            assert [(a, b) for a, b in zip(text, one.answer.split(), strict=True) if a != b] in ([(old, new)], [])


def test_a_model_is_examined_by_the_letter(monkeypatch: pytest.MonkeyPatch, tiny: Model) -> None:
    found = some("heldout", 60)

    def half(_: Model, asked: Sequence[Question]) -> list[str]:
        return [one.answer if number < 30 else f"{one.answer}." for number, one in enumerate(asked)]

    assert all(isinstance(said, str) for said in skills.answers(tiny, found[:3]))
    monkeypatch.setattr(skills, "answers", half)
    report = skills.examine(tiny, found)
    assert report["all"] == {"right": 0.5, "low": 0.3773, "high": 0.6227, "questions": 60}
    assert report["sorting"]["questions"] == 10


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1.0)]
)
def test_intervals_are_wilsons(right: int, count: int, low: float, high: float) -> None:
    """The second is Newcombe's example (Statistics in Medicine 1998)."""
    assert skills.wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_questions_are_written_as_examples(tmp_path: Path) -> None:
    skills.write_questions(tmp_path / "a" / "train.jsonl", 12, 0)
    rows = [json.loads(line) for line in (tmp_path / "a" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert all(row.keys() == {"prompt", "completion"} for row in rows)
