"""The default model's tuning data: what is held out stays out, texts are remembered, and every row can be learned."""

import itertools
import json
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemwright.data.documents import read_folder
from gemwright.data.skills import SKILLS, questions
from gemwright.model import DEFAULT_MODEL, load
from gemwright.text.chat import Message, format_chat
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
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    for number in range(100):
        (folder / f"{number}.txt").write_text(f"Once, on day {number}, a fox went out, and came home.\n\nThe end.\n")
    return folder


@pytest.fixture(scope="module")
def said(corpus: Path) -> list[list[tuple[str, str]]]:
    return list(tuned.conversations(600, 0, list(read_folder(corpus))))


def test_conversations_fit_the_default_model_and_begin_once(said: list[list[tuple[str, str]]]) -> None:
    model = load(str(DEFAULT_MODEL))
    rows = [tuned.example(turns, model.tokenizer) for turns in said]
    assert max(map(len, rows)) <= model.config.max_positions
    assert all(row.count(model.tokenizer.bos_id) == 1 and row[0] == model.tokenizer.bos_id for row in rows)
    shown = model.tokenizer.decode(rows[0], skip_control=False)
    assert shown.startswith(f"<bos><start_of_turn>user\n{said[0][0][0]}<end_of_turn>\n<start_of_turn>model\n")


def test_some_conversations_go_on_and_words_are_quoted(said: list[list[tuple[str, str]]]) -> None:
    turns = [len(one) for one in said]
    assert set(turns) == {1, 2}
    assert turns.count(1) > turns.count(2) > 50
    repeated = [turn for one in said for turn in one if turn[0].startswith("Repeat: ")]
    assert len(repeated) > 10
    assert all(question == f"Repeat: {answer}" for question, answer in repeated)


def test_phrases_are_of_training_documents_alone(corpus: Path) -> None:
    found = list(read_folder(corpus))
    assert {one.split for one in found} == {"train", "heldout"}
    marked = [replace(one, text=f"{one.split} of words and more of them") for one in found]
    text = " ".join(tuned.phrases(marked, 3000, 0)).lower()
    assert "train of words" in text
    assert "heldout" not in text


def test_nothing_held_out_is_taught(said: list[list[tuple[str, str]]]) -> None:
    asked = {one.prompt for one in itertools.islice(questions("heldout", 0, SKILLS), 3000)}
    asked |= {question for question, _ in itertools.islice(manners.manners("heldout", 0), 3000)}
    assert not {question for turns in said for question, _ in turns} & asked


def test_calculations_are_asked_for_in_many_ways() -> None:
    rng = random.Random(0)
    asked = {tuned.reworded("12 - 5 =", rng) for _ in range(300)}
    assert {"12-5", "What is 12 minus 5?", "12 less 5?", "Calculate 12 - 5."} <= asked
    assert tuned.reworded("Write 2 April 2002 in numbers.", rng) == "Write 2 April 2002 in numbers."


def test_the_recipe_reads_documents_and_conversations(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes((DEFAULT_MODEL / "tokenizer.model").read_bytes())
    recipe = tuned.pretraining(corpus, accelerator=False, conversations=200)
    found = recipe.read(recipe.run, tmp_path)
    assert found.tokenizer is not None
    batch = found.data.batch(0, 64, 64)
    (turn,) = format_chat(found.tokenizer, [Message("user", "")]).ids[1:2]
    share = np.mean([(row == turn).any() for row in np.asarray(batch.inputs)])
    assert 0.1 < share < 0.6
    assert (tmp_path / "conversations.npy").exists()


def test_manners_are_examined_to_the_letter(monkeypatch: pytest.MonkeyPatch) -> None:
    known = dict(itertools.islice(manners.manners("heldout", 0), 40))
    monkeypatch.setattr(tuned, "replies", lambda _, asked: [known[question] for question in asked[:-10]] + ["No."] * 10)
    assert tuned.examine_manners(None, 40, 0)["right"] == 0.75  # pyright: ignore[reportArgumentType]


def test_reports_become_a_file_and_a_plot(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    from recipes import shape_results

    def shares(right: float) -> dict[str, dict[str, float]]:
        return {name: {"right": right, "low": right - 0.05, "high": right + 0.05} for name in ("sorting", "all")}

    runs = {"default": [1.0], "pretrained": [0.9], "practice": [0.5], "full": [0.9, 0.7], "lora": [0.8, 0.6]}
    for name, afters in runs.items():
        for number, after in enumerate(afters):
            (tmp_path / f"{name}{number}").mkdir()
            report = {"before": shares(0.1), "after": shares(after)}
            (tmp_path / f"{name}{number}" / "report.json").write_text(json.dumps(report))
    folders = {name: [tmp_path / f"{name}{number}" for number in range(len(afters))] for name, afters in runs.items()}
    found = shape_results.gathered(folders)
    assert found["lora_share_of_gain"] == round(1.2 / 1.4, 4)
    shape_results.chart(found, tmp_path / "skills.png")
    assert (tmp_path / "skills.png").stat().st_size > 1000
