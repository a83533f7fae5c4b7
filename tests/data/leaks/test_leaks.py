"""Benchmarks' items are found in texts as they are, in another form and with words changed; other texts stay."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.planted import edited
from gemwright.data.documents import Document
from gemwright.data.leaks.items import read_benchmarks
from gemwright.data.leaks.search import Decontaminate
from tests.data.repeats.test_repeats import NAMES, text_of

QUESTIONS = [text_of(1000 + n, 12 + n % 60) for n in range(100)]


@pytest.fixture(scope="module")
def benchmarks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    (folder / "quiz").mkdir()
    rows = [{"question": {"stem": q}, "choices": ["yes", "no"], "answer": 3} for q in QUESTIONS]
    (folder / "quiz" / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "quiz" / "LICENSE.txt").write_text(text_of(7))
    (folder / "maths").mkdir()
    (folder / "maths" / "a.json").write_text(json.dumps({"canary": "x", "examples": [{"input": text_of(9008, 30)}]}))
    (folder / "maths" / "b.csv").write_text(f'number,question\n1,"{text_of(9009, 30)}"\n2,too short\n')
    return folder


def host(number: int, item: str) -> str:
    return f"{text_of(number, 100)}\n\n{item}\n\n{text_of(number + 500, 100)}"


def test_items_are_read_from_every_form_and_counted(benchmarks: Path) -> None:
    maths, quiz = read_benchmarks([str(benchmarks)], 8)
    assert (maths.name, maths.items, maths.too_short, len(maths.passages)) == ("maths", 4, 2, 2)
    assert (quiz.name, quiz.items, quiz.too_short) == ("quiz", 100, 0)
    alone = read_benchmarks([str(benchmarks / "quiz"), str(benchmarks / "maths" / "b.csv")], 8)
    assert [b.name for b in alone] == ["b", "quiz"]


@pytest.mark.parametrize("form", [str, str.upper, lambda t: t.replace(" ", " …\n")], ids=["same", "capitals", "broken"])
def test_every_copy_is_found_in_any_case_punctuation_and_white_space(
    benchmarks: Path, form: Callable[[str], str]
) -> None:
    step = Decontaminate((str(benchmarks),))
    for number, question in enumerate(QUESTIONS):
        found = step.find(host(number, form(question)))
        assert {(f.passage.benchmark, f.passage.item) for f in found} == {("quiz", f"test.jsonl:{number + 1}")}


def test_items_with_a_tenth_of_their_words_changed_are_found_and_clean_texts_are_not(benchmarks: Path) -> None:
    """The seeds are fixed, so that luck has no part."""
    step, rng = Decontaminate((str(benchmarks),)), random.Random(0)
    planted = [host(n, edited(question, rng, NAMES)) for n, question in enumerate(QUESTIONS)]
    assert sum(bool(step.find(text)) for text in planted) >= 95
    assert not any(step.find(host(n, text_of(n + 5000, 40))) for n in range(100))


def test_a_dropped_text_names_the_benchmark_and_the_item(benchmarks: Path) -> None:
    step = Decontaminate((str(benchmarks),))
    texts = [host(1, QUESTIONS[4]), host(2, ""), host(3, QUESTIONS[4] + " " + text_of(9008, 30))]
    said = step.judge([Document(str(n), "s", t, "train") for n, t in enumerate(texts)], 0, {})
    assert said.reasons == ["quiz", None, "maths+quiz"]
    assert said.counts == {"leak of quiz item test.jsonl:5": 2, "leak of maths item a.json:1": 1}


@pytest.mark.parametrize(
    ("name", "text", "told"),
    [
        ("a.jsonl", "", "a: expected the items of a benchmark, found none"),
        ("a.json", "[" * 99_999, "a.json: expected rows of a benchmark, found what no reader takes"),
        ("a.csv", "x" * 200_000, "a.csv: expected rows of a benchmark, found what no reader takes"),
    ],
    ids=["empty", "deep", "wide"],
)
def test_a_benchmark_without_items_or_beyond_reading_is_named(name: str, text: str, told: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=told):
        read_benchmarks([str(tmp_path / name)], 8)


def test_nothing_to_look_for_is_an_error_and_no_clean_bill(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("nothing")
    with pytest.raises(FileNotFoundError, match="no benchmark to read"):
        read_benchmarks([str(tmp_path)], 8)
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match=r"a\.json: not JSON"):
        read_benchmarks([str(tmp_path)], 8)
