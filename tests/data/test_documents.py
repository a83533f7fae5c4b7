import gzip
import json
import sysconfig
from pathlib import Path

import pytest
import zstandard

from gemwright.data.documents import Document, read_folder, read_json_lines, split_of, standard_library
from gemwright.data.rows import read_rows

ROWS = [{"id": f"d{n}", "source": "s", "text": f"text {n} 한국어", "split": "train"} for n in range(3)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS)
EXPECTED = [Document(f"d{n}", "s", f"text {n} 한국어", "train") for n in range(3)]


def test_rows_are_read_from_plain_and_compressed_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(LINES, encoding="utf-8")
    (tmp_path / "a.jsonl.zst").write_bytes(zstandard.ZstdCompressor().compress(LINES.encode()))
    assert list(read_json_lines(tmp_path / "a.jsonl")) == EXPECTED
    assert list(read_json_lines(tmp_path / "a.jsonl.zst")) == EXPECTED
    (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(b"\xef\xbb\xbf" + LINES.encode()))
    assert list(read_folder(tmp_path)) == EXPECTED * 3


def test_frames_of_zstandard_are_read_one_after_the_other(tmp_path: Path) -> None:
    frames = [zstandard.ZstdCompressor().compress(line.encode()) for line in LINES.splitlines(keepends=True)]
    (tmp_path / "a.jsonl.zst").write_bytes(b"".join(frames))
    assert list(read_json_lines(tmp_path / "a.jsonl.zst")) == EXPECTED
    assert [row.value for row in read_rows(tmp_path / "a.jsonl.zst")] == ROWS


@pytest.mark.parametrize(("begin", "fault"), [(0, "truncated at line 1000"), (9, "damaged at line 0")])
def test_a_compressed_file_that_is_not_whole_is_named(tmp_path: Path, begin: int, fault: str) -> None:
    """Also one cut between two lines, where no line tells."""
    path = tmp_path / "a.jsonl.zst"
    lines = [json.dumps(row | {"text": "x" * 500}).encode() + b"\n" for row in ROWS[:1] * 1000]
    compressor = zstandard.ZstdCompressor().compressobj()
    parts = [compressor.compress(line) + compressor.flush(zstandard.COMPRESSOBJ_FLUSH_BLOCK) for line in lines]
    path.write_bytes(b"".join(parts)[begin:])  # and never ended
    for read in (read_json_lines, read_rows):
        with pytest.raises(ValueError, match=rf"a\.jsonl\.zst: expected a whole \.zst file, found one that is {fault}"):
            list(read(path))


WRONG = [b"{", b"[]", b'{"id": "x", "source": "s", "text": "t"}', b"3", b"", b"\xff", b"[" * 100_000,
         json.dumps(ROWS[0] | {"text": 5}).encode(), json.dumps(ROWS[0] | {"split": "test"}).encode()]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=range(len(WRONG)))
def test_a_wrong_row_is_named_by_file_and_line(tmp_path: Path, wrong: bytes) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES.encode() + wrong + b"\n")
    with pytest.raises(ValueError, match=r"a\.jsonl, line 4: expected a row with id, source, text, split"):
        list(read_json_lines(tmp_path / "a.jsonl"))


def test_a_folder_gives_its_rows_in_the_order_of_the_names(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "b.jsonl").write_text(LINES, encoding="utf-8")
    (tmp_path / "z.jsonl").write_text(LINES, encoding="utf-8")
    (tmp_path / "notes.md").write_text("about these files", encoding="utf-8")
    assert list(read_folder(tmp_path)) == EXPECTED * 2


def test_a_folder_of_texts_gives_each_file(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    for name, data in {"b.txt": b"B", "below/a.PY": b"A", "latin.txt": "ü".encode("latin-1"), "x.bin": b"X",
                       "blank.md": b" \n"}.items():  # fmt: skip
        (tmp_path / name).write_bytes(data)
    found = list(read_folder(tmp_path))
    assert [(d.id, d.text) for d in found] == [(f"{tmp_path.name}/b.txt", "B"), (f"{tmp_path.name}/below/a.PY", "A")]
    assert {d.split for d in read_folder(tmp_path, one_in=1)} == {"heldout"}


def test_a_folder_without_texts_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"no \.jsonl, \.jsonl\.gz, .* or text files"):
        list(read_folder(tmp_path))


def test_a_document_never_changes_sides() -> None:
    """These are SHA-256 of the ids: another rule would move held-out text into training."""
    expected = ["train", "train", "train", "heldout", "train", "train", "train", "train"]
    assert [split_of(f"doc{n}", 4) for n in range(8)] == expected
    sides = [split_of(f"document {n}", 20) for n in range(4000)]
    held = sides.count("heldout")
    assert 130 < held < 270, "200 expected, 13.8 the deviation; the ids are fixed, so that luck has no part"


def test_the_standard_library_leaves_its_tests_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("json/decoder.py", "test/test_json.py", "json/tests/a.py", "site-packages/other.py", "json/data.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("pass\n")
    monkeypatch.setattr(sysconfig, "get_path", lambda _: str(tmp_path))
    found = list(standard_library())
    assert [(document.id, document.source) for document in found] == [("python_code/json/decoder.py", "python_code")]
