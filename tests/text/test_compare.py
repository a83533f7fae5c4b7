from pathlib import Path

import pytest

from gemwright.text.compare import Comparison, compare_tokenizers, plot_comparison, total
from gemwright.text.tokenizer import Tokenizer
from gemwright.text.training import train_tokenizer

from .conftest import SAMPLES


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ko.tsv").write_text(f"id1\t{SAMPLES['Korean']}\nid2\t{SAMPLES['Korean']}\n", encoding="utf-8")
    (tmp_path / "en.txt").write_text(SAMPLES["English"], encoding="utf-8")
    (tmp_path / "LICENSE.txt").write_text("no language", encoding="utf-8")
    (tmp_path / "data.bin").write_bytes(b"\xff\x00")
    return tmp_path


def test_rows_count_each_language(tokenizer: Tokenizer, symbol_tokenizer: Tokenizer, folder: Path) -> None:
    english, korean = compare_tokenizers(tokenizer, symbol_tokenizer, [folder])
    text = f"{SAMPLES['Korean']}\n" * 2
    assert (english.language, korean.language) == ("en", "ko")
    assert korean.bytes == len(text.encode())
    assert korean.characters == len(text)
    assert korean.tokens_a == len(tokenizer.encode(text))
    assert korean.tokens_b == len(symbol_tokenizer.encode(text))


def test_ratios() -> None:
    row = Comparison("xx", bytes=120, characters=60, tokens_a=30, tokens_b=40)
    assert (row.bytes_per_token_a, row.bytes_per_token_b, row.relative_cost) == (4, 3, 40 / 30)
    assert row.to_json()["relative_cost"] == 40 / 30
    assert total([row, row]) == Comparison("all", 240, 120, 60, 80)


def test_a_vocabulary_learned_on_a_language_is_cheaper_for_it(tokenizer: Tokenizer, folder: Path) -> None:
    korean_only = Tokenizer.from_bytes(train_tokenizer([SAMPLES["Korean"]] * 50, 610, character_coverage=1.0))
    english, korean = compare_tokenizers(tokenizer, korean_only, [folder / "en.txt", folder / "ko.tsv"])
    assert english.relative_cost > 1 > korean.relative_cost


def test_bad_files_are_named(tokenizer: Tokenizer, folder: Path) -> None:
    (folder / "empty.txt").touch()
    (folder / "void").mkdir()
    for path, complaint in [
        (folder / "absent", "absent: no such file or folder"),
        (folder / "void", "void: no text file in this folder"),
        (folder / "data.bin", "data.bin: expected UTF-8 text, found byte 0xff at 0"),
        (folder / "empty.txt", "empty.txt: expected text, found an empty file"),
    ]:
        with pytest.raises((ValueError, FileNotFoundError), match=complaint):
            compare_tokenizers(tokenizer, tokenizer, [path])


def test_the_plot_is_an_image(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    rows = [Comparison("ko", 120, 60, 30, 40), Comparison("en", 100, 100, 30, 20)]
    plot_comparison(rows, ("A", "B"), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "matplotlib.figure", None)
    with pytest.raises(ValueError, match="install gemwright with the extra 'plot'"):
        plot_comparison([], ("A", "B"), tmp_path / "plot.png")
