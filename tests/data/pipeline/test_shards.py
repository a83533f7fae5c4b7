"""Shards are written as documents come, and are what writing each at once would give."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from gemwright.data.documents import Document
from gemwright.data.pipeline.shards import ShardWriter, read_shard


def documents(count: int) -> list[Document]:
    return [Document(f"d{n}", "s", f"é{n} " * (1 + n % 90), "train", {"n": n} if n % 3 else {}) for n in range(count)]


def at_once(path: Path, documents: list[Document]) -> bytes:
    """A shard from one table of all its documents."""
    more = [json.dumps(d.more) for d in documents]
    short = {name: pa.array([getattr(d, name) for d in documents], pa.string()) for name in ("id", "source", "split")}
    long = {"text": pa.array([d.text for d in documents], pa.large_string()), "more": pa.array(more, pa.large_string())}
    pq.write_table(pa.table(short | long), path, compression="zstd", row_group_size=256)
    return path.read_bytes()


def test_a_shard_is_byte_for_byte_one_written_at_once_and_appears_whole(tmp_path: Path) -> None:
    writer, seen = ShardWriter(tmp_path, "00007", 250_000), documents(2000)
    for number, document in enumerate(seen):
        writer.add(document)
        if number == 600:  # of some thousand that make the first shard
            assert not list(tmp_path.glob("0*")), "unfinished shards have no name"
            assert len(list(tmp_path.glob(".0*"))) == 1, "but are on disk"
    writer.flush()
    assert writer.names == ["00007-000.parquet", "00007-001.parquet"]
    first = 0
    for path in sorted(tmp_path.glob("0*")):
        held = list(read_shard(path))
        assert held == seen[first : first + len(held)]
        assert path.read_bytes() == at_once(tmp_path / "whole", held)
        first += len(held)
    assert first == len(seen)


@pytest.mark.parametrize("count", [0, 1, 256, 257, 512])
def test_a_shard_that_is_full_with_the_last_document_is_the_last(tmp_path: Path, count: int) -> None:
    seen = documents(count)
    writer = ShardWriter(tmp_path, "p", sum(len(document.text) for document in seen))
    for document in seen:
        writer.add(document)
    writer.flush()
    assert len(writer.names) == (1 if count else 0)
    assert [d for path in sorted(tmp_path.iterdir()) for d in read_shard(path)] == seen
