"""A Gemma 3 that sees, from a folder to its answers: prompts of texts and pictures, turns, batches."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from gemwright.checkpoints.packed_writer import save_packed
from gemwright.conversation import Conversation
from gemwright.core.packed import Packed
from gemwright.images.load import PictureError
from gemwright.inference import interleaved
from gemwright.inference.generate import decode
from gemwright.inference.interleaved import Row
from gemwright.looking import Eyes, advance, pixels_of, rows_of
from gemwright.model import ContextFull, Model, load
from gemwright.quantisation.quantised import quantise_model
from gemwright.text.chat import Message
from tests.parity.interleaved import ours
from tests.tiny import GEMMA3


@pytest.fixture(scope="module")
def model(gemma3_folder: Path) -> Model:
    return load(gemma3_folder)


def likeliest(model: Model, tokens: Sequence[int], pictures: dict[int, np.ndarray], answer: list[Any]) -> list[int]:
    """By one pass without a cache: what the model finds likeliest after a row, and after each token of its answer."""
    row, marks, size = (
        [*tokens, *answer, *[0] * (256 - len(tokens) - len(answer))],
        list(pictures),
        GEMMA3.picture_tokens,
    )
    places, seen = [], dict.fromkeys(marks, 0)
    for token in row:
        places.append(marks.index(token) * size + seen[token] % size if token < 0 else -1)
        seen[token] = seen.get(token, 0) + 1
    weights: Any = model.weights
    features = ours.features(weights, jnp.asarray(np.stack(list(pictures.values()))), GEMMA3)
    arrays = jnp.asarray(np.maximum(np.array([row]), 0)), features, jnp.array([places]), jnp.arange(256)[None]
    logits, _ = ours.run(weights, *arrays, None, GEMMA3)
    start = len(tokens)
    return np.asarray(logits)[0, start - 1 : start - 1 + len(answer)].argmax(-1).tolist()


def assert_follows(model: Model, prompt: Any, answer: list[int], crops: bool = False) -> None:
    (row,) = rows_of(Eyes(GEMMA3, "gemma3", crops), model.tokenizer, [prompt], None)
    assert answer == likeliest(model, row.tokens, dict(row.pictures), answer)


def test_an_answer_follows_texts_and_pictures_in_their_order(model: Model, pictures: list[Path]) -> None:
    prompts = [["What is ", pictures[0], " and ", pictures[1]], ["What is ", pictures[1], " and ", pictures[0]]]
    answers = [answer.ids for answer in model.complete(prompts, 12)]
    assert answers[0] != answers[1]
    for prompt, answer in zip(prompts, answers, strict=True):
        assert_follows(model, prompt, answer)


def test_rows_of_a_batch_have_as_many_pictures_as_they_like(model: Model, pictures: list[Path]) -> None:
    prompts = ["no picture", [pictures[0], "one"], ["two ", pictures[1], pictures[0]]]
    alone = [model.complete([prompt], 8)[0].text for prompt in prompts]
    assert model.generate(prompts, 8) == alone


def test_one_prompt_with_a_picture_is_one_text(model: Model, pictures: list[Path]) -> None:
    prompt = ["What is ", pictures[1], "?"]
    answer = model.generate(prompt, 8)
    assert isinstance(answer, str)
    assert [answer] == model.generate([prompt], 8)
    assert "".join(model.stream(prompt, 8)) == answer
    with Image.open(pictures[1]) as opened:
        assert model.generate(["What is ", opened, "?"], 8) == answer
    assert model.generate(["What is ", pictures[1].read_bytes(), "?"], 8) == answer


def test_images_stand_before_a_prompt(model: Model, pictures: list[Path]) -> None:
    assert model.generate("?", 8, images=[str(pictures[1])]) == model.generate([pictures[1], "?"], 8)
    assert model.generate("?", 8, images=[pictures]) == model.generate([*pictures, "?"], 8)


def test_crops_are_read_after_the_whole(model: Model, tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(256, size=(260, 620, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "wide.png")
    prompt = ["Read it: ", tmp_path / "wide.png"]
    (cropped,) = model.complete([prompt], 8, pan_and_scan=True)
    assert_follows(model, prompt, cropped.ids, crops=True)
    (row,) = rows_of(Eyes(GEMMA3, "gemma3", crops=True), model.tokenizer, [prompt], None)
    assert len(row.pictures) == 3


def test_text_needs_no_picture_and_no_pillow(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "PIL", None)
    assert model.generate("hello", 4)
    assert model.chat([{"role": "user", "content": "hello"}], 4)


# ------------------------------------------------------------------------------------------- turns


def test_a_turn_shows_pictures_and_the_next_one_keeps_them(model: Model, pictures: list[Path]) -> None:
    conversation = Conversation(model)
    first = "".join(conversation.send(["Look: ", pictures[0]], 6))
    second = "".join(conversation.send(["And ", pictures[1], "?"], 6))
    assert conversation.reused > GEMMA3.picture_tokens, "the first picture was not read again"
    messages = [
        Message("user", ["Look: ", pictures[0]]),
        Message("model", first),
        Message("user", ["And ", pictures[1], "?"]),
    ]
    fresh = Conversation(model, messages)
    prompt, shown = fresh.prompt(6), pixels_of([part for message in fresh.messages for part in message.parts])
    assert [prompt.ids.count(mark) for mark in shown] == [GEMMA3.picture_tokens] * 2
    session = model.session()
    advance(session, Row(prompt.ids, shown), {})
    answer = [step.tokens[0] for step in decode(session, 6, stop_ids=model.tokenizer.stop_ids)]
    assert answer == likeliest(model, prompt.ids, shown, answer)
    assert model.chat(messages, 6) == second == model.tokenizer.decode(answer)


def test_the_oldest_turns_go_with_their_pictures(
    model: Model, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    short = replace(model, config=replace(GEMMA3, decoder=replace(GEMMA3.decoder, max_positions=90)))
    conversation, looks = Conversation(short), list[int]()
    look = interleaved._look
    monkeypatch.setattr(interleaved, "_look", lambda *rest: (looks.append(1), look(*rest))[1])
    for _ in range(4):
        "".join(conversation.send([pictures[0], "what is it?"], 8))
    assert conversation.dropped >= 2
    assert looks == [1], "the same picture is looked at once, whatever is dropped"


def test_messages_of_other_libraries_show_pictures(model: Model, pictures: list[Path]) -> None:
    parts = [{"type": "image", "path": str(pictures[1])}, {"type": "text", "text": "What is it?"}]
    expected = model.chat([Message("user", [pictures[1], "What is it?"])], 6)
    assert model.chat([{"role": "user", "content": parts}], 6) == expected


def test_a_bad_picture_is_refused_and_the_turn_not_added(model: Model, gemma3_folder: Path) -> None:
    conversation = Conversation(model)
    with pytest.raises(PictureError, match=r"config.json: expected a picture"):
        conversation.send(["Look: ", gemma3_folder / "config.json"])
    assert conversation.messages == []


def test_pictures_that_do_not_fit_are_refused(model: Model, pictures: list[Path]) -> None:
    short = replace(model, config=replace(GEMMA3, decoder=replace(GEMMA3.decoder, max_positions=20)))
    with pytest.raises(ContextFull, match="20 tokens"):
        short.generate([pictures[0], "and", pictures[1]])
    with pytest.raises(ContextFull):
        short.chat([Message("user", [pictures[0], "and", pictures[1]])])


def test_models_that_see_less_say_so(tiny: Model, model: Model, paligemma_folder: Path, pictures: list[Path]) -> None:
    with pytest.raises(ValueError, match="reads no pictures: leave them out"):
        tiny.chat([Message("user", ["Look: ", pictures[0]])])
    with pytest.raises(ValueError, match=r"expected texts and pictures .*, found int"):
        model.complete([["How many? ", 3]])
    pali = load(paligemma_folder)
    with pytest.raises(ValueError, match="before each prompt, found text before a picture"):
        pali.generate(["caption ", pictures[0]])
    with pytest.raises(ValueError, match="pan_and_scan: only Gemma 3"):
        pali.generate([pictures[0], "caption en"], pan_and_scan=True)


def test_paligemma_reads_several_pictures_before_its_prompt(paligemma_folder: Path, pictures: list[Path]) -> None:
    pali = load(paligemma_folder)
    both = pali.generate([*pictures, "caption en"], 12)
    assert pali.generate([*pictures[::-1], "caption en"], 12) != both
    assert pali.generate("caption en", 12, images=[pictures]) == both


# ------------------------------------------------------------------------------------ quantisation


def test_tower_and_decoder_are_quantised_and_answer(model: Model, pictures: list[Path], tmp_path: Path) -> None:
    rows = np.random.default_rng(0).integers(720, size=(2, 24))
    found = quantise_model(GEMMA3, model.weights, 4, lambda _: lambda done, total: None, rows)
    assert found.matrices["vision.layers.0.mlp.up"].bits == 8
    assert found.matrices["decoder.layers.0.mlp.up"].bits == 4
    weights: Any = found.weights
    assert isinstance(weights.decoder.embedding, Packed)
    save_packed(tmp_path / "packed", GEMMA3, found.weights, model.tokenizer)
    prompt = [["What is ", pictures[0], "?"]]
    answer = load(tmp_path / "packed").complete(prompt, 4)
    assert answer == replace(model, weights=found.weights).complete(prompt, 4)
    assert np.isfinite(answer[0].log_probabilities).all()
