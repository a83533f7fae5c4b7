"""Documents on disk: Parquet shards and small JSON files that appear whole or not at all."""

import json
import os
import re
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, TextIO

import numpy as np

from gemwright.data.documents import Document

_ROWS = 256  # documents written and read at a time


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a file beside `path`, then put it in place at once, on the disk for good.

    Raises:
      ValueError: as `check_file` does.
    """
    check_file(path)
    path = path.resolve()  # through a link, so that the link stays one
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_of(path)
    try:
        write(partial)
        put_in_place(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def check_file(path: Path) -> None:
    """Raises ValueError if no file can take this name: a folder has it, or a device, which root would replace."""
    if path.exists() and not path.is_file():
        found = "a folder" if path.is_dir() else "a device or a pipe"
        raise ValueError(f"{path}: expected the name of a file to write, found {found}; choose another name")


def put_in_place(partial: Path, path: Path) -> None:
    """Give a whole file its name, once it is on the disk for good."""
    with partial.open("rb+") as file:
        os.fsync(file.fileno())
    partial.replace(path)


def partial_of(path: Path) -> Path:
    """Where a file is written before it is put in place."""
    return path.with_name(f".{path.name}.{os.getpid()}.{uuid.uuid4().hex[:8]}")


def is_partial(path: Path) -> bool:
    """Whether a name is one that `partial_of` gives."""
    return re.fullmatch(r"\..+\.\d+\.[0-9a-f]{8}", path.name) is not None


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n")


def write_text(path: Path, text: str) -> None:
    def write(partial: Path) -> None:
        partial.write_text(text, encoding="utf-8")

    write_whole(path, write)


class RowWriter:
    """JSON lines that appear whole when closed, and not at all without a row or a close."""

    def __init__(self, path: Path) -> None:
        self._path, self._partial = path, partial_of(path)
        self._file: TextIO | None = None

    def add(self, row: dict[str, Any]) -> None:
        if self._file is None:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("w", encoding="utf-8")
        self._file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def close(self) -> None:
        if self._file is not None:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self._path)


class ColumnWriter:
    """An array on disk that grows by rows, and appears whole as an `.npy` file when closed."""

    def __init__(self, path: Path) -> None:
        self.path, self._partial = path, partial_of(path)
        self._file: BinaryIO | None = None
        self._header: dict[str, Any] = {}
        self.rows = 0

    def add(self, rows: Any) -> None:
        if self._file is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._file = self._partial.open("wb")
            self._header = np.lib.format.header_data_from_array_1_0(rows) | {"shape": (0, *rows.shape[1:])}
            np.lib.format.write_array_header_1_0(self._file, self._header)
        self._file.write(np.ascontiguousarray(rows).tobytes())
        self.rows += len(rows)

    def close(self) -> None:
        """Write how many rows there are in the place that the header keeps for it."""
        if self._file is not None:
            self._file.seek(0)
            shape = (self.rows, *self._header["shape"][1:])
            np.lib.format.write_array_header_1_0(self._file, self._header | {"shape": shape})
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._partial.replace(self.path)


def read_shard(path: Path) -> Iterator[Document]:
    """The documents of a shard, a few held at a time."""
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=_ROWS):
            for row in batch.to_pylist():
                yield Document(row["id"], row["source"], row["text"], row["split"], json.loads(row["more"]))


class ShardWriter:
    """Puts documents into shards of about `size` characters, named PIECE-000.parquet, PIECE-001.parquet, ...

    Columns id, source, split, text, and `more`, the other fields as JSON. A shard is written as its documents come, a
    few of them held, and appears whole.
    """

    def __init__(self, folder: Path, piece: str, size: int) -> None:
        self._folder, self._piece, self._size = folder, piece, size
        self._held: list[Document] = []
        self._shard: _Shard | None = None
        self._characters = 0
        self.names: list[str] = []

    def add(self, document: Document) -> None:
        self._held.append(document)
        self._characters += len(document.text)
        if len(self._held) == _ROWS:
            self._write()
        if self._characters >= self._size:
            self.flush()

    def _write(self) -> None:
        if self._shard is None:
            self.names.append(f"{self._piece}-{len(self.names):03d}.parquet")
            self._shard = _Shard(self._folder / self.names[-1])
        self._shard.add(self._held)
        self._held = []

    def flush(self) -> None:
        if self._held:
            self._write()
        if self._shard is not None:
            self._shard.close()
        self._shard, self._characters = None, 0


class _Shard:
    """A shard that grows by groups of rows, and appears whole when closed."""

    def __init__(self, path: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path.parent.mkdir(parents=True, exist_ok=True)
        self._path, self._partial = path, partial_of(path)
        short, long = pa.string(), pa.large_string()
        self._schema = pa.schema({"id": short, "source": short, "split": short, "text": long, "more": long})
        self._file = pq.ParquetWriter(self._partial, self._schema, compression="zstd")

    def add(self, documents: list[Document]) -> None:
        import pyarrow as pa

        columns = {name: [getattr(d, name) for d in documents] for name in ("id", "source", "split", "text")}
        columns["more"] = [json.dumps(d.more, ensure_ascii=False, default=str) for d in documents]
        self._file.write_table(pa.table(columns, self._schema), row_group_size=_ROWS)

    def close(self) -> None:
        self._file.close()
        put_in_place(self._partial, self._path)
