"""The small chain's world: rules that judge it, and nothing held out in what is trained."""

import random

import pytest

from gemwright.data.documents import Split
from gemwright.data.skills import Question
from gemwright.gemma_mini import language


@pytest.fixture(scope="module")
def questions() -> list[Question]:
    return language.exercises("train", 0, 400)


def test_no_exercise_held_out_is_read_at_any_stage(questions: list[Question]) -> None:
    held_out = {one.prompt for one in language.exercises("heldout", 0, 200)}
    lines = [line for sheet in language.sheets("train", 0, 100) for line in sheet.text.splitlines()]
    assert len(lines) == 2000
    assert not any(line.startswith(prompt) for line in lines for prompt in held_out)
    assert not held_out & {one.prompt for one in questions}


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_exercises_are_the_same_for_a_seed_and_no_prompt_comes_twice(split: Split) -> None:
    found = language.exercises(split, 3, 300)
    assert found == language.exercises(split, 3, 300)
    assert found != language.exercises(split, 4, 300)
    assert len({one.prompt for one in found}) == 300
    assert {one.skill for one in found} == {"sums", "sorting", "counting", "editing"}


def test_an_answer_is_right_either_way_and_preferred_where_it_is_plain(questions: list[Question]) -> None:
    rng = random.Random(0)
    for one in questions:
        for way in (language.plain, language.wordy):
            assert language.is_right(one, way(one.answer))
            assert not language.is_right(one, way(language.wrong(one, rng)))
        assert language.is_preferred(one, one.answer)
        assert not language.is_preferred(one, language.wordy(one.answer))


def test_pairs_prefer_right_to_wrong_and_plain_to_wordy(questions: list[Question]) -> None:
    rows = language.pairs(questions, 0)
    kinds = {"longer": 0, "wrong": 0}
    for one, row in zip(questions, rows, strict=True):
        assert language.is_right(one, row["chosen"])
        kinds["longer" if language.is_right(one, row["rejected"]) else "wrong"] += 1
        if language.is_right(one, row["rejected"]):
            assert language.is_preferred(one, row["chosen"])
    assert 80 < kinds["longer"] < 200, "a third of 400: 133, with a standard deviation of 9; and the seed is fixed"


def test_wrong_answers_are_as_often_too_short_as_too_long() -> None:
    """Of 900, each third has 300 with a standard deviation of 14; and the seed is fixed."""
    rng = random.Random(0)
    lists = [one for one in language.exercises("train", 1, 1800) if len(one.answer.split()) > 1]
    more = [len(language.wrong(one, rng).split()) - len(one.answer.split()) for one in lists[:900]]
    assert len(more) == 900
    assert all(230 < more.count(step) < 370 for step in (-1, 0, 1))


def test_prose_is_what_modules_say_of_themselves() -> None:
    found = {one.id: one for one in language.prose(20)}
    text = found["python_code/textwrap.py"].text
    assert text.startswith("Text wrapping and filling.")
    assert "import re" not in text
    assert {one.split for one in found.values()} == {"train", "heldout"}
