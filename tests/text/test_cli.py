import inspect
import json
import textwrap
from pathlib import Path

import pytest
from typer.testing import CliRunner

from gemwright.cli.tokenizer import app
from gemwright.text.tokenizer import load_tokenizer

from .conftest import SAMPLES


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    for name, text in SAMPLES.items():
        (folder / f"{name}.txt").write_text(f"{text}\n" * 20, encoding="utf-8")
    (folder / "code.py").write_text(inspect.getsource(textwrap), encoding="utf-8")
    return folder


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_train_writes_a_tokenizer_that_loads(texts: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "folder"
    assert "900 pieces" in run("train", texts, texts / "Korean.txt", "--vocab-size", 900, "--out", out)
    assert load_tokenizer(out).vocab_size == 900


def test_train_replaces_no_file(texts: Path, tmp_path: Path) -> None:
    (tmp_path / "tokenizer.model").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="is there already"):
        run("train", texts, "--vocab-size", 620, "--out", tmp_path)
    assert (tmp_path / "tokenizer.model").read_bytes() == b"precious"


def test_train_learns_from_json_lines_but_not_from_what_is_held_out(tmp_path: Path) -> None:
    rows = [("train", inspect.getsource(textwrap)), ("heldout", "жжж " * 400)]
    lines = [json.dumps({"id": s, "source": "t", "text": text, "split": s}) for s, text in rows]
    (tmp_path / "corpus.jsonl").write_text("\n".join(lines), encoding="utf-8")
    run("train", tmp_path / "corpus.jsonl", "--vocab-size", 700, "--out", tmp_path)
    tokenizer = load_tokenizer(tmp_path)
    assert tokenizer.has("e")
    assert not tokenizer.has("ж")


def test_train_names_a_file_of_another_encoding(tmp_path: Path) -> None:
    (tmp_path / "latin.txt").write_bytes("Würde".encode("latin-1"))
    with pytest.raises(ValueError, match=r"latin\.txt: expected UTF-8 text, found another encoding at byte 1"):
        run("train", tmp_path / "latin.txt", "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def model(model_bytes: bytes, tmp_path: Path) -> Path:
    (tmp_path / "a.model").write_bytes(model_bytes)
    return tmp_path / "a.model"


def test_compare_takes_all_files_after_the_option(model: Path, texts: Path) -> None:
    files = [texts / f"{name}.txt" for name in ("Korean", "Thai", "German")]
    rows = json.loads(run("compare", model, model, "--files", *files, "--json"))
    assert [row["language"] for row in rows] == ["Korean", "Thai", "German", "all"]
    assert all(row["relative_cost"] == 1 for row in rows)


def test_compare_prints_a_table(model: Path, texts: Path) -> None:
    lines = run("compare", model, model, "--files", texts).splitlines()
    assert any(line.startswith("Korean") and line.endswith("1.00") for line in lines)


def test_encode_shows_pieces(model: Path) -> None:
    assert "</b>" in run("encode", model, "x</b>")
