"""Every kind of file gives its documents, and every kind of damage one record in quarantine, never an exception."""

import bz2
import gzip
import json
import lzma
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.documents import Document
from gemwright.data.reading.files import find_files
from gemwright.data.reading.quarantined import Quarantined
from gemwright.data.reading.read import origin_of, read_documents

T = TypeVar("T")

COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}
ROWS = [{"id": f"d{n}", "text": f"text {n} 한국어", "url": f"u{n}"} for n in range(50)]
LINES = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def read(path: Path, **settings: int) -> tuple[list[Document], list[Quarantined]]:
    found = list(read_documents(origin_of(str(path), **settings)))
    return [d for d in found if isinstance(d, Document)], [d for d in found if isinstance(d, Quarantined)]


@pytest.mark.parametrize("ending", COMPRESS)
def test_rows_are_read_from_every_compression_in_one_member_or_two(tmp_path: Path, ending: str) -> None:
    compress = COMPRESS[ending]
    half = LINES.index(b"\n", len(LINES) // 2) + 1
    for data in (compress(LINES), compress(LINES[:half]) + compress(LINES[half:])):
        path = tmp_path / f"rows.jsonl{ending}"
        path.write_bytes(data)
        documents, broken = read(path)
        assert [d.text for d in documents] == [row["text"] for row in ROWS]
        assert [(d.id, d.source, d.more) for d in documents[:1]] == [("d0", "rows", {"url": "u0"})]
        assert broken == []


@pytest.mark.parametrize("ending", [ending for ending in COMPRESS if ending])
def test_a_truncated_file_gives_what_came_before_and_one_record_set_aside(tmp_path: Path, ending: str) -> None:
    noise = "".join(json.dumps({"text": f"{n} {hash_of(n)}"}) + "\n" for n in range(4000)).encode()
    data = COMPRESS[ending](noise)
    path = tmp_path / f"rows.jsonl{ending}"
    path.write_bytes(data[: len(data) // 2])
    documents, broken = read(path)
    assert [record.reason for record in broken] == ["truncated"]
    assert [d.text for d in documents] == [json.loads(line)["text"] for line in noise.splitlines()[: len(documents)]]
    # bzip2 decodes whole blocks of 900 kB: of a file with one block half is nothing
    assert len(documents) >= (0 if ending == ".bz2" else 500)


def hash_of(number: int) -> str:
    import hashlib

    return hashlib.sha256(str(number).encode()).hexdigest()


def test_damaged_compressed_data_is_told_from_truncated(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(LINES))
    data[len(data) // 2] ^= 0xFF
    (tmp_path / "a.jsonl.gz").write_bytes(data)
    documents, broken = read(tmp_path / "a.jsonl.gz")
    assert {record.reason for record in broken} >= {"damaged"}
    assert len(documents) + len(broken) <= len(ROWS) + 1


BAD_LINES = {
    "not UTF-8": b'{"text": "caf\xe9"}',
    "not JSON": b'{"text": "a"',
    "not a row with a text": b"[1, 2]",
    "not a row with a text ": b'{"text": 3}',
    "not a row with a text  ": b'{"id": "x"}',
    "not a row with a text   ": b'{"text": "half a pair \\ud800"}',
    "not a row with a text    ": b'{"text": "' + b"x" * 10 + b'", "n": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
}


@pytest.mark.parametrize("reason", BAD_LINES)
def test_a_bad_line_is_set_aside_with_its_place_and_bytes_and_reading_goes_on(tmp_path: Path, reason: str) -> None:
    (tmp_path / "a.jsonl").write_bytes(LINES + BAD_LINES[reason] + b"\n\n" + LINES)
    documents, broken = read(tmp_path / "a.jsonl")
    assert len(documents) == 2 * len(ROWS)
    assert [(record.reason, record.place) for record in broken] == [(reason.strip(), "line 51")]
    assert broken[0].data == BAD_LINES[reason]


def test_a_line_that_is_too_long_is_never_held(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES + b'{"text": "' + b"x" * 100_000_000 + b'"}\n' + LINES)
    (documents, broken), peak = with_peak(lambda: read(path, longest=1 << 20))
    assert (len(documents), [(b.reason, b.size) for b in broken]) == (2 * len(ROWS), [("too long", 100_000_012)])
    assert peak < 20 << 20, "a few copies of a megabyte; the line has a hundred"


@pytest.mark.parametrize(("ending", "size"), [(".bz2", 150_000_000), (".zst", 500_000_000)])
def test_a_few_bytes_that_unpack_to_very_many_are_never_held(tmp_path: Path, ending: str, size: int) -> None:
    path = tmp_path / f"a.jsonl{ending}"
    path.write_bytes(COMPRESS[ending](b"x" * size))
    (documents, broken), peak = with_peak(lambda: read(path, longest=1 << 20))
    assert (documents, [(b.reason, b.size) for b in broken]) == ([], [("too long", size)])
    assert peak < size * 0.6


def with_peak(do: Callable[[], T]) -> tuple[T, int]:
    """What a function returns, and the most memory it took."""
    tracemalloc.start()
    result = do()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return result, peak


@settings(deadline=None, max_examples=60)
@given(data=st.binary(max_size=300))
def test_any_bytes_are_documents_or_records_set_aside(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("any")
    lines = [line for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n") if line.strip()]
    (folder / "a.jsonl").write_bytes(data)
    documents, broken = read(folder / "a.jsonl")
    assert len(documents) + len(broken) == len(lines)
    for ending in (".txt", ".html", ".warc", ".jsonl.gz", ".parquet", ".arrow"):
        (folder / f"a{ending}").write_bytes(data)
        read(folder / f"a{ending}")


def test_tables_give_rows_and_a_damaged_group_counts_all_its_rows(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    rows = [{"text": f"row {n} {hash_of(n)}", "n": n} for n in range(3000)]
    pq.write_table(pa.Table.from_pylist([*rows, {"text": None, "n": 0}]), path, row_group_size=1000, compression="gzip")
    documents, broken = read(path)
    assert [d.text for d in documents] == [row["text"] for row in rows]
    assert [record.reason for record in broken] == ["not a row with a text"]
    data = bytearray(path.read_bytes())
    start = pq.ParquetFile(path).metadata.row_group(1).column(0).data_page_offset
    data[start + 40 : start + 3000] = bytes(2960)
    path.write_bytes(data)
    documents, broken = read(path)
    damaged = [record for record in broken if record.reason == "damaged"]
    assert len(documents) + sum(record.records for record in broken) == 3001
    assert damaged[0].place.startswith("row group 1")
    assert documents[-1].text == rows[-1]["text"], "later groups are still read"


PAGE = "<html><head><title>T</title></head><body><nav><a href=/>Home</a></nav><main><p>{}</p></main></body></html>"


def record(kind: str, body: bytes, length: int | None = None, **headers: str) -> bytes:
    lines = ["WARC/1.0", f"WARC-Type: {kind}", "WARC-Record-ID: <urn:x:1>", "WARC-Target-URI: http://a/"]
    lines += [f"{key.replace('_', '-')}: {value}" for key, value in headers.items()]
    head = "\r\n".join([*lines, f"Content-Length: {len(body) if length is None else length}"])
    return head.encode() + b"\r\n\r\n" + body + b"\r\n\r\n"


def answer(body: bytes, media: str, **headers: str) -> bytes:
    more = "".join(f"{key.replace('_', '-')}: {value}\r\n" for key, value in headers.items())
    http = f"HTTP/1.1 200 OK\r\nContent-Type: {media}\r\n{more}\r\n".encode() + body
    return record("response", http, Content_Type="application/http; msgtype=response")


SENTENCE = "The quick brown fox jumps over the lazy dog, and then it sleeps for a while in the sun."


def test_archives_give_the_main_text_of_pages_and_set_other_content_aside(tmp_path: Path) -> None:
    page = PAGE.format(SENTENCE + " café").encode("latin-1")
    packed = gzip.compress(PAGE.format(SENTENCE).encode())
    chunked = b"%x\r\n" % len(page) + page + b"\r\n0\r\n\r\n"
    parts = [
        record("warcinfo", b"about"),
        answer(page, "text/html; charset=iso-8859-1"),
        answer(packed, "text/html", Content_Encoding="gzip"),
        answer(chunked, "text/html; charset=iso-8859-1", Transfer_Encoding="chunked"),
        answer(b"\x89PNG", "image/png"),
        record("conversion", SENTENCE.encode(), Content_Type="text/plain"),
        record("conversion", SENTENCE.encode(), length=10),
        record("conversion", SENTENCE.encode(), length=len(SENTENCE) + 30),
        record("conversion", SENTENCE.encode()),
    ]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(map(gzip.compress, parts)))
    documents, broken = read(tmp_path / "a.warc.gz")
    texts = [d.text for d in documents]
    assert texts[:3] == [SENTENCE + " café", SENTENCE, SENTENCE + " café"]
    assert texts[3:] == [SENTENCE] * 4, "wrong lengths cost nothing"
    assert [(b.reason, b.detail) for b in broken] == [("no page", "content of type image/png")]
    assert documents[0].more["url"] == "http://a/"


def test_an_archive_that_breaks_off_gives_its_whole_records(tmp_path: Path) -> None:
    data = record("conversion", SENTENCE.encode()) * 3
    (tmp_path / "a.warc").write_bytes(data[:-60])
    documents, broken = read(tmp_path / "a.warc")
    assert (len(documents), [b.reason for b in broken]) == (2, ["truncated"])
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(data)[:-20])
    documents, broken = read(tmp_path / "a.warc.gz")
    assert [b.reason for b in broken] == ["truncated"]


def test_what_a_row_says_is_held_out_is_not_trained_on(tmp_path: Path) -> None:
    splits = ["train", "heldout", "test", "validation", "dev"]
    rows = [json.dumps({"text": "t", "split": split}) for split in splits * 20]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    assert [d.split for d in read(tmp_path / "a.jsonl")[0]] == ["train", *["heldout"] * 4] * 20


def test_the_mark_that_some_programs_begin_a_text_with_is_no_part_of_it(tmp_path: Path) -> None:
    for name, data in (("a.jsonl", b'{"text": "one"}\r\n{"text": "two"}\r\n'), ("a.txt", b"one")):
        (tmp_path / name).write_bytes(b"\xef\xbb\xbf" + data)
    assert [d.text for d in read(tmp_path / "a.jsonl")[0]] == ["one", "two"]
    assert [d.text for d in read(tmp_path / "a.txt")[0]] == ["one"]


@pytest.mark.parametrize(
    ("whole", "damaged"),
    [
        (b"HTTP/1.1 200 OK", b"HTTP/1 200 OK"),
        (b"WARC-Target-URI: http", b"WARC-TaXget-URI: http"),
        (b"text/html\r\n", b"text/html\r\nTransfer-Encoding: chunked\r\nContent-Encoding: br\r\n"),
        (b"Content-Length: ", b"Content-Length: " + b"9" * 5000),
    ],
)
def test_a_damaged_header_costs_its_record_alone(tmp_path: Path, whole: bytes, damaged: bytes) -> None:
    good = answer(PAGE.format(SENTENCE).encode(), "text/html")
    (tmp_path / "a.warc").write_bytes(good.replace(whole, damaged, 1) + good)
    documents, broken = read(tmp_path / "a.warc")
    assert (len(documents), len(broken)) == (1, 1)


def test_inputs_are_files_folders_patterns_and_addresses(tmp_path: Path) -> None:
    import fsspec

    for name in ("b.jsonl", "a.txt.gz", "x.bin", "c.WET.gz"):
        (tmp_path / name).write_bytes(b"")
    assert [Path(p).name for p in find_files([str(tmp_path)])] == ["a.txt.gz", "b.jsonl", "c.WET.gz"]
    assert [Path(p).name for p in find_files([str(tmp_path / "*.jsonl"), str(tmp_path / "b.jsonl")])] == ["b.jsonl"]
    with pytest.raises(FileNotFoundError, match=r"no file to read \(endings"):
        find_files([str(tmp_path / "missing")])
    assert [Path(p).name for p in find_files([str(tmp_path / "*")])] == ["a.txt.gz", "b.jsonl", "c.WET.gz"]
    os.close(os.open(os.fsencode(tmp_path) + b"/\xff.txt", os.O_CREAT))
    with pytest.raises(ValueError, match=r"udcff\.txt': the name is not UTF-8"):
        find_files([str(tmp_path)])
    with fsspec.open("memory://bucket/rows.jsonl", "wb") as file:
        file.write(LINES)
    (address,) = find_files(["memory://bucket"])
    assert len(list(read_documents(origin_of(address)))) == len(ROWS)
