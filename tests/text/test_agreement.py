"""The room's two readers against the libraries of their files, on real files."""

import sysconfig
from pathlib import Path

import pytest

from gemwright.text.tokenizer import Tokenizer

from .test_tokenizer import library_ids

MULTILINGUAL = ("udhr/txt/*.txt", "ud_pud/??.tsv", "ud_gsd/*.tsv")


def python_library() -> list[Path]:
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    return files[::6]


CHARACTERS = 30_000  # of each file: `tokenizers` takes seconds for more


def assert_agrees(data: bytes, files: list[Path]) -> None:
    tokenizer = Tokenizer.from_bytes(data)
    for file in files:
        text = file.read_text(encoding="utf-8")[:CHARACTERS]
        ids = tokenizer.encode(text)
        assert ids == library_ids(data, text), file
        assert tokenizer.decode(ids) == text, file


@pytest.mark.parametrize("file", ["model_bytes", "json_bytes"])
def test_the_multilingual_files_agree(file: str, shared_data: Path, request: pytest.FixtureRequest) -> None:
    files = [path for pattern in MULTILINGUAL for path in sorted(shared_data.glob(pattern))]
    assert len(files) >= 30
    assert_agrees(request.getfixturevalue(file), files)


@pytest.mark.parametrize("file", ["model_bytes", "json_bytes"])
def test_the_standard_library_agrees(file: str, request: pytest.FixtureRequest) -> None:
    assert_agrees(request.getfixturevalue(file), python_library())
