"""The pictures and questions of the recipe say the truth, and training never shows what is held out."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from PIL import Image

from gemwright.models.paligemma import Config
from recipes import shapes
from recipes.shapes_answers import LENGTH, count_right, draw_answers, interval, questions, tokenizer, write_report
from recipes.shapes_data import (
    COLOURS,
    HELD_OUT,
    KINDS,
    NAMES,
    SIDE,
    TRAINED,
    Example,
    Thing,
    example,
    examples,
    render,
    scene,
)


def test_each_name_and_each_colour_is_trained_in_some_combination() -> None:
    assert (len(HELD_OUT), len(TRAINED)) == (15, 145)
    assert max(Counter(thing.name for thing in HELD_OUT).values()) == 1
    assert max(Counter(thing.colour for thing in HELD_OUT).values()) <= 2
    assert {thing.name for thing in TRAINED} == set(NAMES)
    assert {thing.colour for thing in TRAINED} == set(COLOURS)


def test_training_shows_nothing_that_is_held_out_and_held_out_scenes_always_do() -> None:
    for one in itertools.islice(examples("train", 0), 1000):
        assert all(thing is None or thing.split == "train" for thing in one.things)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        asked, other = scene("heldout", rng)
        assert asked.split == "heldout"
        if other is not None:
            assert asked.name != other.name, "or a question about it would have two answers"
            assert asked.colour != other.colour


def test_what_is_asked_about_a_held_out_scene_is_never_an_answer_of_training() -> None:
    """No caption, no answer in words ever says a combination that is held out."""
    said = " and ".join(one.answer for one in itertools.islice(examples("train", 1), 2000))
    assert not any(f"{thing} " in f"{said} " for thing in HELD_OUT)
    assert sum(f"{thing} " in f"{said} " for thing in TRAINED) > 140


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_about_the_thing_asked_for(kind: str) -> None:
    asked, other = Thing("circle", "red"), Thing("7", "blue")
    found = {example(asked, other, kind, np.random.default_rng(seed)).answer for seed in range(20)}
    expected = {
        "caption": {"a red circle and a blue 7", "a blue 7 and a red circle"},
        "left": {"a red circle"},
        "right": {"a red circle"},
        "colour": {"red"},
        "name": {"a circle"},
    }
    assert found == expected[kind]


def test_the_caption_of_one_thing_names_it_alone() -> None:
    one = example(Thing("circle", "red"), None, "caption", np.random.default_rng(0))
    assert (one.answer, one.things.count(None)) == ("a red circle", 1)


@pytest.mark.parametrize("name", NAMES)
def test_a_thing_is_drawn_in_its_colour_in_its_half_and_nowhere_else(name: str) -> None:
    for seed in range(5):
        blue, red = Thing(name, "blue"), Thing("square" if name != "square" else "circle", "red")
        picture = np.asarray(render((blue, red), np.random.default_rng(seed))).astype(int)
        near = {
            colour: np.abs(picture - COLOURS[colour]).max(axis=-1) < 45 for colour in ("blue", "red", "green")
        }  # fmt: skip
        assert near["blue"][:, : SIDE // 2].sum() > 30
        assert near["red"][:, SIDE // 2 :].sum() > 200
        assert not near["blue"][:, SIDE // 2 :].any()
        assert not near["red"][:, : SIDE // 2].any()
        assert not near["green"].any()


def test_the_same_seed_gives_the_same_examples() -> None:
    first, second = (list(itertools.islice(examples("train", 3), 5)) for _ in range(2))
    for one, other in zip(first, second, strict=True):
        assert (one.prompt, one.answer) == (other.prompt, other.answer)
        np.testing.assert_array_equal(np.asarray(one.picture), np.asarray(other.picture))


def test_every_prompt_with_its_answer_fits_the_rows() -> None:
    config, words = shapes.model(), tokenizer()
    found = list(itertools.islice(examples("heldout", 0), 200))
    batch = shapes.batch(found, words, config)
    assert batch.pixels.shape == (200, 48, 48, 3)
    for row, one in enumerate(found):
        prompt, length = int(batch.prompts[row]), int(batch.lengths[row])
        answer = batch.tokens[row, prompt:length].tolist()
        assert words.decode(answer) == one.answer
        assert answer[-1] == words.eos_id


def test_the_first_steps_ask_for_captions_only_and_later_ones_for_everything() -> None:
    words, config = tokenizer(), shapes.model()
    found = shapes.batches(range(30, 32), 100, words, config), shapes.batches(range(28, 30), 100, words, config)
    mixed, captions = ({tuple(row[:5]) for row in one.tokens.reshape(-1, LENGTH).tolist()} for one in found)
    assert len(captions) == 1
    assert len(mixed) > 1


def test_questions_show_other_pictures_than_training_did() -> None:
    seen = {one.picture.tobytes() for number in range(3) for one in itertools.islice(examples("train", number), 32)}
    asked = {one.picture.tobytes() for seed in range(2) for one in itertools.islice(questions("train", seed), 64)}
    assert len(seen) == 96
    assert len(asked) == 128
    assert seen.isdisjoint(asked)


def test_answers_are_counted_by_kind_and_the_report_tells_what_was_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found: list[tuple[Example, str]] = [(one, one.answer) for one in itertools.islice(examples("heldout", 0), 40)]
    missed = found[7][0]
    found[7] = missed, "a blue moon"
    counts = count_right(found)
    assert counts["all"] == (39, 40)
    assert counts[missed.kind][0] == counts[missed.kind][1] - 1
    assert sum(counts[kind][1] for kind in KINDS) == counts["one thing"][1] + counts["two things"][1] == 40
    write_report({"heldout": found, "train": found[:7]}, tmp_path)
    assert "| all | 39 of 40: 97.5% (87.1% to 99.6%) | 7 of 7: 100.0% (64.6% to 100.0%) |" in capsys.readouterr().out
    wrong = json.loads((tmp_path / "report.json").read_text())["wrong"]
    assert wrong["train"] == []
    assert wrong["heldout"] == [{"prompt": missed.prompt, "answer": missed.answer, "said": "a blue moon"}]


@pytest.mark.parametrize(("right", "of", "low", "high"), [(0, 10, 0.0, 0.2775), (81, 263, 0.2553, 0.3662)])
def test_intervals_are_those_that_newcombe_prints(right: int, of: int, low: float, high: float) -> None:
    """Newcombe, Two-sided confidence intervals for the single proportion (1998), table I."""
    assert interval(right, of) == pytest.approx((low, high), abs=1e-4)


def test_the_sheet_of_answers_shows_each_picture_as_the_model_sees_it(tmp_path: Path) -> None:
    found = [(one, one.answer) for one in itertools.islice(examples("heldout", 0), 5)]
    draw_answers(found, 48, tmp_path / "answers.png")
    with Image.open(tmp_path / "answers.png") as sheet:
        drawn = np.asarray(sheet)
    seen = np.asarray(found[4][0].picture.resize((48, 48), Image.Resampling.BICUBIC))
    place = drawn[256 + 8 + 2 : 256 + 8 + 192 : 4, 8 + 2 : 8 + 192 : 4]  # the first of the second row
    np.testing.assert_array_equal(place, seen)


def test_the_recipe_goes_on_where_it_was_interrupted_and_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shapes.model()
    small = Config(replace(whole.vision, num_layers=1), replace(whole.decoder, num_layers=1))
    monkeypatch.setattr(shapes, "ROWS", 4)
    monkeypatch.setattr(shapes, "model", lambda: small)
    monkeypatch.setattr(shapes, "SAVE_EVERY", 2)
    monkeypatch.setattr(shapes, "WATCHED", 3)
    once = shapes.train(4, tmp_path / "once")

    def killed(*arguments: Any) -> None:
        note_shares(*arguments)
        if arguments[2] == 4:
            raise KeyboardInterrupt

    note_shares = shapes.note_shares
    monkeypatch.setattr(shapes, "note_shares", killed)
    with pytest.raises(KeyboardInterrupt):
        shapes.train(4, tmp_path / "again")
    monkeypatch.setattr(shapes, "note_shares", note_shares)
    again = shapes.train(4, tmp_path / "again")

    jax.tree.map(np.testing.assert_array_equal, again, once)
    losses, looks = (
        [
            [json.loads(line) for line in (tmp_path / folder / name).read_text().splitlines()]
            for folder in ("once", "again")
        ]
        for name in ("losses.jsonl", "shares.jsonl")
    )
    assert [one["loss"] for one in losses[0]] == [one["loss"] for one in losses[1]]
    assert 7 < losses[0][0]["loss"] < 10, "about log 4096: nothing is known yet"
    assert looks[0] == looks[1]
    assert [look["step"] for look in looks[0]] == [2, 4]
