"""A model that reads pictures, from a folder to its answers."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.checkpoints.packed_writer import save_packed
from gemwright.core.packed import Packed
from gemwright.images.load import PictureError, load_picture
from gemwright.images.pixels import to_pixels
from gemwright.model import ContextFull, Model, load
from gemwright.quantisation.quantised import quantise_model
from gemwright.text.picture_prompt import format_picture_prompt
from tests.parity.pictures import ours
from tests.tiny import PALIGEMMA


@pytest.fixture(scope="module")
def model(paligemma_folder: Path) -> Model:
    return load(paligemma_folder)


def likeliest(model: Model, picture: Path, prompt: str, answer: list[int]) -> list[int]:
    """By one pass without a cache: what the model finds likeliest after the prompt, and after each token."""
    ids = format_picture_prompt(model.tokenizer, prompt).ids
    pixels = jnp.asarray(to_pixels(load_picture(picture), PALIGEMMA.vision.image_size)[None])
    tokens, start = jnp.array([[*ids, *answer]]), jnp.array([len(ids)])
    weights: Any = model.weights
    logits, _ = ours.run(weights, pixels, tokens, start, start + len(answer), None, PALIGEMMA)
    return np.asarray(logits)[0, len(ids) - 1 : -1].argmax(-1).tolist()


def test_an_answer_follows_picture_and_prompt(model: Model, pictures: list[Path]) -> None:
    answers = [model.complete(["caption en"], 12, images=[picture])[0].ids for picture in pictures]
    assert answers[0] != answers[1]
    for picture, answer in zip(pictures, answers, strict=True):
        assert answer == likeliest(model, picture, "caption en", answer)


def test_each_prompt_of_a_batch_has_its_own_picture(model: Model, pictures: list[Path]) -> None:
    prompts = ["caption en", "what is it?"]
    alone = [model.generate(p, 8, images=[picture]) for p, picture in zip(prompts, pictures, strict=True)]
    assert model.generate(prompts, 8, images=pictures) == alone


def test_a_stream_is_the_answer_and_bytes_are_a_picture(model: Model, pictures: list[Path]) -> None:
    whole = model.generate("caption en", 12, images=[pictures[1]])
    assert "".join(model.stream("caption en", 12, images=[pictures[1].read_bytes()])) == whole


@pytest.mark.parametrize(
    ("images", "found"),
    [
        (None, "before each prompt, found none; give images"),
        ([[]], "before each prompt, found none; give images"),
        ([], "expected 1 in a list, found 0"),
        ("cat.jpg", "expected 1 in a list, found a single one"),
        (["a.png", "b.png"], "expected 1 in a list, found 2"),
    ],
)
def test_a_prompt_without_its_picture_is_refused(model: Model, images: Any, found: str) -> None:
    with pytest.raises(ValueError, match=found):
        model.generate("caption en", images=images)


def test_a_model_without_eyes_says_so(tiny: Model, pictures: list[Path]) -> None:
    with pytest.raises(ValueError, match=r"tiny \(gemma2\) reads no pictures"):
        tiny.generate("caption en", images=pictures[:1])


def test_a_file_that_is_no_picture_is_refused_in_one_line(model: Model, paligemma_folder: Path) -> None:
    with pytest.raises(PictureError, match=r"config.json: expected a picture .*, found none of them"):
        model.generate("caption en", images=[paligemma_folder / "config.json"])


def test_turns_are_refused(model: Model) -> None:
    with pytest.raises(ValueError, match="knows no turns"):
        model.chat([{"role": "user", "content": "hello"}])


def test_a_prompt_that_does_not_fit_beside_its_picture_is_refused(model: Model, pictures: list[Path]) -> None:
    short = replace(model, config=replace(PALIGEMMA, decoder=replace(PALIGEMMA.decoder, max_positions=20)))
    with pytest.raises(ContextFull, match="20 tokens"):
        short.generate("caption en", images=pictures[:1])


# ----------------------------------------------------------------------------------- quantisation


def test_tower_and_decoder_are_packed_and_answer(paligemma_folder: Path, pictures: list[Path]) -> None:
    model = load(paligemma_folder, bits=4)
    weights: Any = model.weights
    for matrix in (weights.vision.layers[0].mlp.up, weights.projector.matrix, weights.decoder.embedding):
        assert isinstance(matrix, Packed)
        assert matrix.bits == 4
    (packed,) = model.complete(["caption en"], 8, images=pictures[:1])
    assert packed.ids
    assert np.isfinite(packed.log_probabilities).all()


def test_8_bits_hardly_change_what_a_picture_says(paligemma_folder: Path, model: Model, pictures: list[Path]) -> None:
    packed = load(paligemma_folder, bits=8)
    for picture in pictures:
        scores = [m.complete(["caption en"], 1, images=[picture])[0] for m in (model, packed)]
        assert abs(scores[0].log_probabilities[0] - scores[1].log_probabilities[0]) < 0.25  # bfloat16 moves it as much


def test_what_texts_do_not_touch_is_quantised_to_8_bits_and_kept(
    model: Model, pictures: list[Path], tmp_path: Path
) -> None:
    rows = np.random.default_rng(0).integers(720, size=(2, 24))
    found = quantise_model(PALIGEMMA, model.weights, 4, lambda _: lambda done, total: None, rows)
    assert found.matrices["vision.layers.0.mlp.up"].bits == 8
    assert found.matrices["decoder.layers.0.mlp.up"].bits == 4
    save_packed(tmp_path / "packed", PALIGEMMA, found.weights, model.tokenizer)
    answer = load(tmp_path / "packed").complete(["caption en"], 4, images=pictures[:1])
    assert answer == replace(model, weights=found.weights).complete(["caption en"], 4, images=pictures[:1])


def test_mixed_bits_are_chosen_for_the_decoder(model: Model) -> None:
    rows = np.random.default_rng(0).integers(720, size=(2, 24))
    found = quantise_model(PALIGEMMA, model.weights, 4, lambda _: lambda done, total: None, rows, bits_per_weight=8.0)
    bits = {name: matrix.bits for name, matrix in found.matrices.items() if name.startswith("decoder.")}
    assert set(bits.values()) == {4, 8}
