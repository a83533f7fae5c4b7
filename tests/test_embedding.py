"""Texts as vectors: what is put around a text, batches of any sizes, and bad input."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from gemwright.cli.main import app
from gemwright.embedding import Embedder, load_embedder
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer
from tests.sentence_folders import CONFIG, sharp, write_sentence_folder
from tests.tolerances import SAME

TEXTS = ["a short one", "born free", "all human beings are born free and equal, in dignity and rights", "no"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    learned = train_tokenizer(["all human beings are born free and equal in dignity and rights " * 20], 600)
    return write_sentence_folder(tmp_path_factory.mktemp("e") / "model", sharp(), Tokenizer.from_bytes(learned))


@pytest.fixture(scope="module")
def embedder(folder: Path) -> Embedder:
    return load_embedder(folder)


def test_vectors_have_the_length_1_and_the_order_of_the_texts(embedder: Embedder) -> None:
    together = embedder.embed(TEXTS * 3)  # more than one call takes
    assert (together.shape, together.dtype) == ((12, 20), np.float32)
    np.testing.assert_allclose(np.linalg.norm(together, axis=1), 1, rtol=0, atol=SAME)
    for number, text in enumerate(TEXTS * 3):
        np.testing.assert_allclose(embedder.embed([text])[0], together[number], rtol=0, atol=SAME)


def test_a_text_stands_between_one_bos_and_eos(embedder: Embedder) -> None:
    tokenizer = embedder.tokenizer
    ids = np.asarray([[tokenizer.bos_id, *tokenizer.encode("born free"), tokenizer.eos_id]])
    direct = sharp()(ids, CONFIG, positions=np.arange(ids.shape[1])[None])
    np.testing.assert_allclose(embedder.embed(["born free"]), np.asarray(direct), rtol=0, atol=SAME)


def test_a_task_is_its_words_before_the_text(embedder: Embedder) -> None:
    asked, written = embedder.embed(["born free"], "query"), embedder.embed(["task: search result | query: born free"])
    np.testing.assert_array_equal(asked, written)
    assert np.abs(asked - embedder.embed(["born free"], "document")).max() > 0.01


def test_shorter_vectors_are_the_first_numbers_at_length_1(embedder: Embedder) -> None:
    whole, short = embedder.embed(TEXTS), embedder.embed(TEXTS, size=7)
    expected = whole[:, :7] / np.linalg.norm(whole[:, :7], axis=1, keepdims=True)
    np.testing.assert_allclose(short, expected, rtol=0, atol=SAME)


@pytest.mark.parametrize(
    ("texts", "options", "message"),
    [
        ([], {}, "expected a list of at least one, found none"),
        ("a text", {}, "found a single text"),
        (["good", " \n"], {}, "text 1: expected words to embed, found none"),
        (["free " * 100], {}, "text 0: expected at most 80 tokens, found 1.. cut it|text 0: expected at most 80"),
        (["free"], {"task": "poem"}, "task: expected one of query, document, STS, found 'poem'"),
        (["free"], {"size": 21}, "size: expected 1 to 20, found 21"),
        (["free"], {"size": 0}, "size: expected 1 to 20, found 0"),
    ],
)
def test_bad_input_is_refused(embedder: Embedder, texts: list[str], options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        embedder.embed(texts, **options)


def test_only_a_newline_ends_a_text_on_standard_input(folder: Path) -> None:
    run = CliRunner().invoke(app, ["embed", str(folder)], "born \u2028 free\x0c\nno\n", catch_exceptions=False)
    assert run.output.count("\n") == 2


def test_the_command_prints_a_list_a_text(folder: Path, embedder: Embedder) -> None:
    arguments = ["embed", str(folder), "--text", "born free", "--text", "no", "--task", "query", "--size", "5"]
    run = CliRunner().invoke(app, arguments, catch_exceptions=False)
    lines = [json.loads(line) for line in run.output.splitlines()]
    np.testing.assert_allclose(lines, embedder.embed(["born free", "no"], "query", 5), rtol=0, atol=SAME)
