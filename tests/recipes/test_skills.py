"""Questions have one right answer, their working leads to it, none held out is trained, and intervals are honest."""

import datetime
import itertools
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from gemwright.data.skills import FURTHER, SKILLS, Question, calculation, questions
from gemwright.model import Model
from gemwright.text.chat import Message
from gemwright.tuning.rewards.reward import Task
from recipes import practice, skills


def some(split: Any, count: int = 1200, seed: int = 0) -> list[Question]:
    return list(itertools.islice(questions(split, seed, SKILLS), count))


def test_no_operands_are_on_both_sides_in_any_order() -> None:
    sides = [{(one.skill, one.key) for one in some(split)} for split in ("train", "heldout")]
    assert not sides[0] & sides[1]
    assert {skill for skill, _ in sides[1]} == {skill.__name__ for skill in SKILLS}
    pairs = {one.key for one in some("train") if one.skill == "addition"}
    assert all(int(a) <= int(b) for a, b in (key.split() for key in pairs))


def test_answers_are_right() -> None:
    """By another way than the generator's: Python reads the arithmetic, sets and lists the rest."""
    for one in some("heldout", 800):
        if one.prompt.endswith("="):
            assert eval(one.prompt.removesuffix("=")) == int(one.answer)
        elif one.skill == "sorting":
            assert sorted(one.prompt.split()[1:], key=int) == one.answer.split()
        elif one.skill == "counting":
            wanted, words = one.prompt.split()[3], one.prompt.split(": ")[1].removesuffix("?")
            assert f" {words} ".replace(" ", "  ").count(f" {wanted} ") == int(one.answer)
        elif one.skill == "editing":
            _, old, _, new = one.prompt.split(":")[0].split()
            text = one.prompt.split(": ")[1].split()
            assert [(a, b) for a, b in zip(text, one.answer.split(), strict=True) if a != b] in ([(old, new)], [])


SIZES = {
    **{"km": 1000, "m": 1, "cm": 0.01, "mm": 0.001, "kg": 1, "g": 0.001, "t": 1000, "l": 1, "ml": 0.001},
    **{"hours": 3600, "minutes": 60, "seconds": 1},
}


def test_units_keep_their_size() -> None:
    for one in (one for one in some("train", 1600) if one.skill == "units"):
        _, count, given, _, asked = one.prompt.removesuffix(".").split()
        value, unit = one.answer.split()
        assert unit == asked
        assert float(value) * SIZES[asked] == pytest.approx(int(count) * SIZES[given], rel=1e-12)


def test_dates_stay_the_same_day() -> None:
    forms = ("%Y-%m-%d", "%d %B %Y", "%B %d, %Y")

    def day_of(text: str) -> datetime.date:
        for form in forms:
            try:
                return datetime.datetime.strptime(text, form).date()
            except ValueError:
                continue
        raise AssertionError(text)

    for one in (one for one in some("train", 1600) if one.skill == "dates"):
        shown = re.fullmatch(r"Write (.*) (?:in numbers|with the (?:day|month) first)\.", one.prompt)
        assert shown
        assert day_of(shown[1]) == day_of(one.answer)
        assert shown[1] != one.answer


def test_each_step_of_a_working_holds_and_leads_to_the_answer() -> None:
    for one in some("train", 2400):
        steps = re.findall(r"[\d+*-]+=\d+", one.working)
        assert all(eval(step.split("=")[0]) == int(step.split("=")[1]) for step in steps)
        assert one.completion.endswith(one.answer)
        assert bool(steps) == (one.prompt.endswith("=") or "hours" in one.prompt or "seconds" in one.prompt)
        parts = [int(part) for part in re.findall(r": (\d+)", one.working)]
        assert not parts or sum(parts) == int(one.answer)


def test_calculations_of_any_size_are_right_and_share_what_is_held_out() -> None:
    found = list(itertools.islice(questions("train", 0, (calculation,)), 1500))
    assert all(eval(one.prompt.removesuffix("=")) == int(one.answer) for one in found)
    steps = [step for one in found for step in re.findall(r"[\d+*-]+=\d+", one.working)]
    assert all(eval(step.split("=")[0]) == int(step.split("=")[1]) for step in steps)
    assert any(one.answer.startswith("-") for one in found)
    held_out = {(one.skill, one.key) for one in some("heldout", 2400)}
    assert not {(one.skill, one.key) for one in found} & held_out


def test_further_skills_are_right_and_none_of_the_default_models() -> None:
    found = list(itertools.islice(questions("heldout", 0, FURTHER), 1000))
    for one in found:
        given = one.prompt.split(": ")[-1].split()
        numbers = [int(word) for word in given if word.isdigit()]
        expected = {
            "three terms": lambda one=one: str(eval(one.prompt.removesuffix("="))),
            "descending": lambda numbers=numbers: " ".join(map(str, sorted(numbers)[::-1])),
            "largest": lambda numbers=numbers: str(sorted(numbers)[-1]),
            "reversing": lambda given=given: " ".join(given[::-1]),
            "alphabetical": lambda given=given: " ".join(sorted(given)),
        }
        assert one.answer == expected[one.skill]()
    assert not {one.prompt for one in found} & {one.prompt for one in some("train", 2400)}


def test_the_last_line_is_the_answer() -> None:
    one = Question("addition", "7 9", "7 + 9 =", "16", "7+9=16")
    assert one.completion == "7+9=16\n16"
    assert all(map(one.is_right, ("16", "7+9=16\n16")))
    assert not any(map(one.is_right, ("", "16.", "16\n", "7+9=16", "16\n17")))


def test_a_model_is_examined_by_the_letter(monkeypatch: pytest.MonkeyPatch, tiny: Model) -> None:
    found = some("heldout", 64)

    def half(_: Model, asked: Sequence[str]) -> list[str]:
        assert list(asked) == [one.prompt for one in found]
        return [one.answer if number < 32 else f"{one.answer}." for number, one in enumerate(found)]

    assert all(isinstance(said, str) for said in skills.replies(tiny, [one.prompt for one in found[:3]]))
    monkeypatch.setattr(skills, "replies", half)
    report = skills.examine(tiny, found)
    assert report["all"] == {"right": 0.5, "low": 0.381, "high": 0.619, "questions": 64}
    assert report["sorting"]["questions"] == 8


@pytest.mark.parametrize(
    ("right", "count", "low", "high"), [(0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662), (10, 10, 0.7225, 1.0)]
)
def test_intervals_are_wilsons(right: int, count: int, low: float, high: float) -> None:
    """The second is Newcombe's example (Statistics in Medicine 1998)."""
    assert skills.wilson(right, count) == pytest.approx((low, high), abs=1e-4)


def test_questions_are_written_as_examples(tmp_path: Path) -> None:
    skills.write_rows(tmp_path / "a" / "train.jsonl", itertools.islice(skills.taught(0), 12))
    rows = [json.loads(line) for line in (tmp_path / "a" / "train.jsonl").read_text().splitlines()]
    assert len(rows) == 12
    assert all(row.keys() == {"prompt", "completion"} for row in rows)


def test_practice_is_rewarded_where_the_last_line_is_right(tmp_path: Path) -> None:
    practice.write_prompts(tmp_path / "prompts.jsonl", "counting", 7)
    rows = [json.loads(line) for line in (tmp_path / "prompts.jsonl").read_text().splitlines()]
    assert all(row["prompt"].startswith("How often is") for row in rows)
    task, rule = Task([Message("user", rows[0]["prompt"])], rows[0], "row 1"), practice.last_line()
    answers = [rows[0]["answer"], f"so:\n{rows[0]['answer']}", f"{rows[0]['answer']}0", ""]
    assert [judged.value for judged in rule([task] * 4, answers)] == [1.0, 1.0, 0.0, 0.0]
