"""The pictures and questions of the recipe say the truth, and training never shows what is held out."""

import itertools
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gemwright.models.paligemma import Config
from recipes import shapes
from recipes.shapes_data import COLOURS, EVERY_THING, NAMES, PROMPTS, SIDE, Thing, example, examples, render, scene


def test_each_name_and_each_colour_is_trained_in_some_combination() -> None:
    trained = [thing for thing in EVERY_THING if thing.split == "train"]
    held_out = [thing for thing in EVERY_THING if thing.split == "heldout"]
    assert (len(held_out), len(EVERY_THING)) == (15, 160)
    assert max(Counter(thing.name for thing in held_out).values()) == 1
    assert max(Counter(thing.colour for thing in held_out).values()) <= 2
    assert {thing.name for thing in trained} == set(NAMES)
    assert {thing.colour for thing in trained} == set(COLOURS)


def test_training_shows_nothing_that_is_held_out_and_held_out_scenes_always_do() -> None:
    rng = np.random.default_rng(0)
    for _ in range(2000):
        asked, other = scene("train", rng)
        assert asked.split == other.split == "train"
        asked, other = scene("heldout", rng)
        assert asked.split == "heldout"
        assert asked.name != other.name, "or a question about it would have two answers"
        assert asked.colour != other.colour


@pytest.mark.parametrize("kind", PROMPTS)
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


@pytest.mark.parametrize("name", NAMES)
def test_a_thing_is_drawn_in_its_colour_in_its_half_and_nowhere_else(name: str) -> None:
    for seed in range(5):
        blue, red = Thing(name, "blue"), Thing("square" if name != "square" else "circle", "red")
        picture = np.asarray(render(blue, red, np.random.default_rng(seed))).astype(int)
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
    config, words = shapes.model(), shapes.tokenizer()
    found = list(itertools.islice(examples("heldout", 0), 200))
    batch = shapes.batch(found, words, config)
    assert batch.pixels.shape == (200, 48, 48, 3)
    for row, one in enumerate(found):
        prompt, length = int(batch.prompts[row]), int(batch.lengths[row])
        answer = batch.tokens[row, prompt:length].tolist()
        assert words.decode(answer) == one.answer
        assert answer[-1] == words.eos_id


def test_the_recipe_runs_from_pictures_to_its_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = shapes.model()
    small = Config(replace(whole.vision, num_layers=1), replace(whole.decoder, num_layers=1))
    monkeypatch.setattr(shapes, "ROWS", 4)
    monkeypatch.setattr(shapes, "model", lambda: small)
    monkeypatch.setattr(shapes, "SAVE_EVERY", 2)
    shapes.train(2, tmp_path)  # interrupted after two steps, it goes on with the third
    weights = shapes.train(3, tmp_path)
    losses = [json.loads(line)["loss"] for line in (tmp_path / "losses.jsonl").read_text().splitlines()]
    assert len(losses) == 3
    assert 7 < losses[0] < 10, "about log 4096: nothing is known yet"
    assert set(shapes.shares_right(weights, small, count=4)) >= {"all"}
