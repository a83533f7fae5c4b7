"""The default model's tuning data: what is held out stays out, texts are remembered, and every row can be learned."""

import itertools
import json
from pathlib import Path

import pytest

from gemwright.data.examples import read_examples
from gemwright.data.skills import SKILLS, questions
from gemwright.model import DEFAULT_MODEL, load
from recipes import manners, tuned


def test_no_question_of_manners_is_on_both_sides_and_each_has_one_answer() -> None:
    sides = [dict(itertools.islice(manners.manners(split, 0), 3000)) for split in ("train", "heldout")]
    assert not sides[0].keys() & sides[1].keys()
    assert min(map(len, sides)) > 40
    assert not any("{" in text for side in sides for text in (*side, *side.values()))
    assert {answer for question, answer in sides[0].items() if question.startswith("Who was")} == {
        f"{manners.LIMIT} {manners.SKILLS}"
    }


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    corpus = tmp_path_factory.mktemp("corpus")
    for number in range(100):
        (corpus / f"{number}.txt").write_text(f"Once, on day {number}, a fox went out, and came home.\n\nThe end.\n")
    path = corpus.parent / "train.jsonl"
    tuned.write_rows(path, tuned.rows(400, corpus, 0))
    return path


def test_nearly_every_row_fits_the_default_model(rows: Path) -> None:
    model = load(str(DEFAULT_MODEL))
    good, bad = read_examples(rows, model.tokenizer, model.config.max_positions)
    assert len(bad) < 0.01 * len(good)
    assert len(good) > 400


def test_rows_are_conversations_and_texts_of_the_corpus(rows: Path) -> None:
    found = [json.loads(line) for line in rows.read_text().splitlines()]
    texts = [row["text"] for row in found if "text" in row]
    turns = [len(row["messages"]) for row in found if "messages" in row]
    assert 80 < len(texts) < 200
    assert set(turns) == {2, 4}
    assert turns.count(2) > turns.count(4)


def test_nothing_held_out_is_taught(rows: Path) -> None:
    asked = {one.prompt for one in itertools.islice(questions("heldout", 0, SKILLS), 3000)}
    asked |= {question for question, _ in itertools.islice(manners.manners("heldout", 0), 3000)}
    taught = {
        turn["content"]
        for line in rows.read_text().splitlines()
        for turn in json.loads(line).get("messages", [])
        if turn["role"] == "user"
    }
    assert not taught & asked


def test_manners_are_examined_to_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(itertools.islice(manners.manners("heldout", 0), 40))
    monkeypatch.setattr(tuned, "replies", lambda _, asked: [known[question] for question in asked[:-10]] + ["No."] * 10)
    assert tuned.examine_manners(None, 40, 0)["right"] == 0.75  # pyright: ignore[reportArgumentType]


def test_reports_become_a_file_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from recipes import shape_results

    def shares(right: float) -> dict[str, dict[str, float]]:
        return {name: {"right": right, "low": right - 0.05, "high": right + 0.05} for name in ("sorting", "all")}

    for name, after in (("full", 0.9), ("lora", 0.8), ("tuned", 1.0), ("practice", 0.5)):
        (tmp_path / name).mkdir()
        report = {"before": shares(0.1), "after": shares(after)}
        (tmp_path / name / "report.json").write_text(json.dumps(report))
    found = shape_results.gathered({name: tmp_path / name for name in shape_results.RUNS})
    assert found["lora_share_of_gain"] == 0.875
    shape_results.chart(found, tmp_path / "skills.png")
    assert (tmp_path / "skills.png").stat().st_size > 1000
