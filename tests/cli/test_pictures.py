"""`--image` and `--draw`: answers in words, pictures drawn, one line for what cannot be."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gemwright.cli.pictures import in_words
from gemwright.conversation import Conversation
from gemwright.model import Model, load

Run = Callable[..., Any]

FOUND = ["<loc0000><loc0000>", "<loc1023><loc05", "12> cat ; <loc0512><loc0512><loc1023><loc1023> dog"]


def test_a_picture_is_answered_in_chat_and_generate(run: Run, paligemma_folder: Path, pictures: list[Path]) -> None:
    answer = load(paligemma_folder).generate("caption en", 8, images=[pictures[1]])
    given = ("--image", pictures[1], "--prompt", "caption en", "--max-new-tokens", 8)
    for verb in ("generate", "chat"):
        done = run(verb, paligemma_folder, *given, "--temperature", 0, "--top-p", 1, "--min-p", 0)
        assert (done.code, done.out, done.err) == (0, answer + "\n", "")


def test_json_tells_of_an_answer_to_a_picture(run: Run, paligemma_folder: Path, pictures: list[Path]) -> None:
    done = run("generate", paligemma_folder, "--image", pictures[0], "--prompt", "x", "--max-new-tokens", 3, "--json")
    assert len(json.loads(done.out)["ids"]) <= 3


def test_regions_are_told_in_words_and_drawn(
    run: Run, paligemma_folder: Path, pictures: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Model, "stream", lambda *_, **__: iter(FOUND))
    out = tmp_path / "out.png"
    done = run("chat", paligemma_folder, "--image", pictures[0], "--prompt", "detect cat", "--draw", out)
    assert done.out == "cat: x 0 to 20, y 0 to 30 of 40 x 30\ndog: x 20 to 40, y 15 to 30 of 40 x 30\n"
    assert done.err == f"{out}: 2 regions, 0 masks\n"
    with Image.open(out) as drawn, Image.open(pictures[0]) as picture:
        assert drawn.size == picture.size
        assert (np.asarray(drawn) != np.asarray(picture)).any()
    done = run("generate", paligemma_folder, "--image", pictures[0], "--prompt", "detect cat", "--draw", out)
    assert done.out == "".join(FOUND) + "\n"


def test_what_is_no_region_is_shown_as_it_comes(pictures: list[Path]) -> None:
    def parts() -> Iterator[str]:
        yield from (" ", "a ", "cat <loc0001>")

    assert list(in_words(parts(), pictures[0])) == [" a ", "cat <loc0001>"]
    assert list(in_words(["<", "b>"], pictures[0])) == ["<b>"]


def test_a_chat_about_a_picture_goes_on(
    run: Run, paligemma_folder: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["caption en", "", "what is it?", "/exit", "never read"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    done = run("chat", paligemma_folder, "--image", pictures[0], "--temperature", 0, "--max-new-tokens", 4)
    model = load(paligemma_folder)
    answers = [model.generate(p, 4, images=[pictures[0]], min_p=0.05) for p in ("caption en", "what is it?")]
    assert done.out == "".join(answer + "\n" for answer in answers)


ERRORS: dict[str, tuple[tuple[str, ...], str]] = {
    "no such picture": (("generate", "{pali}", "--prompt", "x", "--image", "/no.png"), "expected a picture file"),
    "no picture": (("chat", "{pali}", "--prompt", "x", "--image", "{pali}/config.json"), "expected a picture"),
    "none given": (("generate", "{pali}", "--prompt", "x"), "before each prompt, found none; give images"),
    "none given in chat": (("chat", "{pali}", "--prompt", "x"), "give --image"),
    "no eyes": (("generate", "{tiny}", "--prompt", "x", "--image", "{picture}"), "reads no pictures"),
    "no eyes in chat": (("chat", "{tiny}", "--prompt", "x", "--image", "{picture}"), "reads no pictures"),
    "nothing to draw on": (("generate", "{pali}", "--prompt", "x", "--draw", "o.png"), "--draw: needs a picture"),
    "two to draw on": (
        ("chat", "{pali}", "--prompt", "x", "--image", "{picture}", "--image", "{picture}", "--draw", "o.png"),
        "--draw: needs a picture to draw on, found 2",
    ),
    "no crops": (
        ("generate", "{pali}", "--prompt", "x", "--image", "{picture}", "--pan-and-scan"),
        "pan_and_scan: only",
    ),
    "no masks alone": (("chat", "{pali}", "--prompt", "x", "--masks", "m.npz"), "--masks: are drawn"),
    "no places": (
        ("chat", "{tiny}", "--prompt", "x", "--image", "{picture}", "--draw", "o.png"),
        "draws the places that PaliGemma finds, and tiny (gemma2) finds none",
    ),
    "odd name": (
        ("chat", "{pali}", "--prompt", "x", "--image", "{picture}", "--draw", "out.txt"),
        "expected a name that ends in .png, .jpg or .webp, found out.txt",
    ),
}


@pytest.mark.parametrize("case", ERRORS)
def test_what_cannot_be_is_one_line(
    run: Run, case: str, paligemma_folder: Path, tiny_folder: Path, pictures: list[Path]
) -> None:
    arguments, reason = ERRORS[case]
    names = {"pali": paligemma_folder, "tiny": tiny_folder, "picture": pictures[0]}
    done = run(*(argument.format(**names) for argument in arguments))
    assert (done.code, done.out, done.err.count("\n")) == (1, "", 1)
    assert reason in done.err


def test_the_summary_counts_tower_and_decoder(run: Run) -> None:
    found = json.loads(run("summary", "paligemma-3b-224", "--json").out)
    assert found["parameters"] == {"embedding": 526_647_296, "other": 2_396_688_112, "total": 2_923_335_408}
    assert found["config"]["family"] == "paligemma"
    assert found["cache_bytes"]["8192"] == 2 * 18 * 256 * 2 * 8192  # keys and values, layers, one head of 256, bytes
    drawn = run("summary", "paligemma2-3b-224").out
    assert "0 to 26, alike" in drawn  # the tower's layers
    assert "0 to 25, alike" in drawn  # the decoder's


def test_a_folder_is_converted_and_has_no_gguf_form(run: Run, paligemma_folder: Path, tmp_path: Path) -> None:
    assert run("convert", paligemma_folder, tmp_path / "out").out.endswith(
        "paligemma2, float32, 0.00 GB, with its tokenizer\n"
    )
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == (
        paligemma_folder / "model.safetensors"
    ).read_bytes()
    done = run("convert", paligemma_folder, tmp_path / "out.gguf")
    assert done.code == 1
    assert "llama.cpp computes no model of this kind, save it as a Hugging Face folder" in done.err


# ---------------------------------------------------------------------------------- pictures in a chat

GREEDY = ("--temperature", 0, "--top-p", 1, "--min-p", 0, "--max-new-tokens", 6)


def test_gemma_3_answers_about_several_pictures(run: Run, gemma3_folder: Path, pictures: list[Path]) -> None:
    images = [part for picture in pictures for part in ("--image", picture)]
    model = load(gemma3_folder)
    chatted = run("chat", gemma3_folder, *images, "--prompt", "What differs?", *GREEDY)
    expected = model.chat([{"role": "user", "content": [*pictures, "What differs?"]}], 6)
    assert (chatted.code, chatted.out, chatted.err) == (0, expected + "\n", "")
    continued = run("generate", gemma3_folder, *images, "--prompt", "differ", "--max-new-tokens", 6)
    assert continued.out == model.generate([*pictures, "differ"], 6) + "\n"


def test_pictures_come_into_a_chat_turn_by_turn(
    run: Run, gemma3_folder: Path, tiny_folder: Path, pictures: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = iter(["hello", f"/image {pictures[0]}", "/image /no.png", "what is it?", "/exit"])
    monkeypatch.setattr("builtins.input", lambda _: next(lines))
    done = run("chat", gemma3_folder, *GREEDY, "--pan-and-scan")
    assert (done.code, "/no.png: expected a picture file, found nothing" in done.err) == (0, True)
    conversation = Conversation(load(gemma3_folder))
    answers = ["".join(conversation.send(content, 6)) for content in ("hello", [pictures[0], "what is it?"])]
    assert done.out == "".join(answer + "\n" for answer in answers)
    lines = iter([f"/image {pictures[0]}", "hello", "/exit"])
    done = run("chat", tiny_folder, *GREEDY)
    assert (done.code, "reads no pictures" in done.err, len(done.out) > 1) == (0, True, True)


def test_a_gemma_3_is_converted_with_its_tower(run: Run, gemma3_folder: Path, tmp_path: Path) -> None:
    done = run("convert", gemma3_folder, tmp_path / "out")
    assert done.out.endswith("gemma3, float32, 0.00 GB, with its tokenizer\n")
    stored = gemma3_folder / "model.safetensors"
    assert (tmp_path / "out" / "model.safetensors").read_bytes() == stored.read_bytes()


def test_the_summary_of_a_released_gemma_3_counts_its_tower(run: Run) -> None:
    found = json.loads(run("summary", "gemma3-4b", "--json").out)
    assert found["config"]["family"] == "gemma3"
    assert found["parameters"]["total"] == 4_299_915_632
    assert found["weights"]["projector.matrix"] == [1152, 2560]


def test_a_gemma_3_is_quantised(run: Run, gemma3_folder: Path, tmp_path: Path) -> None:
    text = ("--text", __file__, "--calibration", __file__, "--tokens", 64)
    done = run("quantize", gemma3_folder, tmp_path / "out", *text, "--force")
    assert done.code == 0, done.err
    assert run("generate", tmp_path / "out", "--prompt", "x", "--max-new-tokens", 2).code == 0
