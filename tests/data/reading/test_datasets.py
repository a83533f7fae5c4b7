"""Data sets of Hugging Face's libraries are read from their folders, each with its own files and no others."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemwright.data.reading.files import find_files
from tests.data.reading.test_reading import read

TABLE = pa.table({"text": [f"text {n}" for n in range(700)], "label": list(range(700))})


def save(folder: Path, tables: list[pa.Table]) -> None:
    """As `save_to_disk` does."""
    folder.mkdir(parents=True)
    names = [f"data-{n:05d}-of-{len(tables):05d}.arrow" for n in range(len(tables))]
    for name, table in zip(names, tables, strict=True):
        with pa.ipc.new_stream(folder / name, table.schema) as writer:
            writer.write_table(table, max_chunksize=300)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in names]}))
    (folder / "dataset_info.json").write_text("{}")


def test_a_saved_data_set_is_read_by_split_without_leftovers(tmp_path: Path) -> None:
    save(tmp_path / "poems" / "train", [TABLE.slice(0, 500), TABLE.slice(500)])
    save(tmp_path / "poems" / "test", [TABLE.slice(0, 3)])
    (tmp_path / "poems" / "dataset_dict.json").write_text('{"splits": ["train", "test"]}')
    (tmp_path / "poems" / "train" / "cache-1234.arrow").write_bytes(b"left by map")
    found = [read(Path(file)) for file in find_files([str(tmp_path / "poems")])]
    assert [broken for _, broken in found] == [[], [], []]
    documents = [document for part, _ in found for document in part]
    assert [d.text for d in documents] == [f"text {n}" for n in [*range(3), *range(700)]]
    assert {d.source for d in documents} == {"poems/test", "poems/train"}
    assert (documents[3].id, documents[3].more) == ("poems/train/data-00000-of-00002.arrow#1", {"label": 0})
    assert len({d.id for d in documents}) == 703


def test_a_data_set_without_splits_is_its_own_source_and_the_indexed_form_is_read_too(tmp_path: Path) -> None:
    save(tmp_path / "one", [TABLE])
    assert {d.source for d in read(Path(find_files([str(tmp_path / "one")])[0]))[0]} == {"one"}
    with pa.ipc.new_file(tmp_path / "other.arrow", TABLE.schema) as writer:
        writer.write_table(TABLE)
    documents, broken = read(tmp_path / "other.arrow")
    assert (len(documents), documents[0].source, broken) == (700, "other", [])


def test_the_hubs_cache_gives_the_files_of_its_main_snapshot(tmp_path: Path) -> None:
    root = tmp_path / "datasets--owner--name"
    (root / "refs").mkdir(parents=True)
    (root / "refs" / "main").write_text("new")
    (root / "blobs").mkdir()
    for revision, rows in (("old", 5), ("new", 7)):
        folder = root / "snapshots" / revision / "data"
        folder.mkdir(parents=True)
        pq.write_table(TABLE.slice(0, rows), root / "blobs" / revision)
        (folder / "train-00000-of-00001.parquet").symlink_to(root / "blobs" / revision)
    (file,) = find_files([str(tmp_path)])
    documents, broken = read(Path(file))
    assert (len(documents), documents[0].source, broken) == (7, "owner/name/train", [])
    assert documents[0].id == "owner/name/data/train-00000-of-00001.parquet#1"


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_bad_rows_of_a_table_are_set_aside_one_by_one(tmp_path: Path, ending: str) -> None:
    """Tables do not check that their texts are UTF-8."""
    texts = [b"good", b"bad \xff\xfe", None, b"also good"]
    table, path = pa.table({"text": _unchecked(texts)}), tmp_path / f"t.{ending}"
    write(path, table)
    documents, broken = read(path)
    assert [d.text for d in documents] == ["good", "also good"]
    assert [(b.place, b.reason) for b in broken] == [("row 2", "not UTF-8"), ("row 3", "not a row with a text")]


@pytest.mark.parametrize("ending", ["arrow", "parquet"])
def test_texts_kept_as_bytes_are_texts_and_times_cost_no_row(tmp_path: Path, ending: str) -> None:
    """Python has neither nanoseconds nor the year 292,277; a file has both."""
    texts = pa.array([b"one", "zwölf".encode(), b"bad \xff", b"x" * 101], pa.binary())
    path = tmp_path / f"t.{ending}"
    write(path, pa.table({"text": texts, "when": pa.array([1, 2**62, 0, 0], pa.timestamp("us"))}))
    documents, broken = read(path, longest=100)
    assert [d.text for d in documents] == ["one", "zwölf"]
    assert documents[0].more == {"when": "1970-01-01 00:00:00.000001"}
    assert [(b.place, b.reason) for b in broken] == [("row 3", "not UTF-8"), ("row 4", "too long")]
    write(path, pa.table({"text": ["a", "b"], "when": pa.array([1, 1001], pa.timestamp("ns", "UTC"))}))
    assert [d.text for d in read(path)[0]] == ["a", "b"]
    far = pa.array([{"at": 0}, {"at": 2**62}], pa.struct({"at": pa.timestamp("us")}))
    write(path, pa.table({"text": ["a", "b"], "nested": far}))
    documents, broken = read(path)
    assert ([d.text for d in documents], [b.place for b in broken]) == (["a"], ["row 2"])
    write(path, pa.table({"text": pa.array([0], pa.timestamp("us"))}))
    assert [b.reason for b in read(path)[1]] == ["not a row with a text"]


def write(path: Path, table: pa.Table) -> None:
    if path.suffix == ".parquet":
        pq.write_table(table, path)
        return
    with pa.ipc.new_stream(path, table.schema) as writer:
        writer.write_table(table)


def _unchecked(texts: list[bytes | None]) -> pa.Array:
    raw = pa.array(texts, pa.binary())
    return pa.Array.from_buffers(pa.string(), len(raw), raw.buffers())


def test_an_arrow_file_that_breaks_off_gives_its_whole_batches(tmp_path: Path) -> None:
    save(tmp_path / "one", [TABLE])
    path = next((tmp_path / "one").glob("*.arrow"))
    path.write_bytes(path.read_bytes()[:-1500])
    documents, broken = read(path)
    assert [d.text for d in documents] == [f"text {n}" for n in range(600)]
    assert [(b.place, b.reason) for b in broken] == [("after row 600", "damaged")]


def test_a_data_set_with_a_file_missing_is_refused_before_the_work(tmp_path: Path) -> None:
    save(tmp_path / "one", [TABLE, TABLE])
    (tmp_path / "one" / "data-00001-of-00002.arrow").unlink()
    with pytest.raises(FileNotFoundError, match=r"names data-00001-of-00002\.arrow, which is not there"):
        find_files([str(tmp_path)])
    (tmp_path / "one" / "state.json").write_text("{}")
    with pytest.raises(ValueError, match="expected the state of a saved data set"):
        find_files([str(tmp_path)])
