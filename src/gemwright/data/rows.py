"""Rows of data files: JSON lines, JSON, Parquet, and the folders in which Hugging Face's library keeps them.

Nothing is lost on the way: a row that cannot be read is handed on with the reason and its bytes.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from gemwright.data.compressed import whole_lines

_SPLITS = ("train", "validation", "valid", "dev", "test", "eval")


@dataclass(frozen=True)
class Row:
    """One row of a file.

    Attributes:
      number: the line of a text file, else the row, from 1.
      value: what it holds, if `fault` is empty.
      raw: its bytes, of a text file.
      fault: why it cannot be read.
    """

    file: Path
    number: int
    value: Any = None
    raw: bytes = b""
    fault: str = ""


def read_rows(path: Path) -> Iterator[Row]:
    """The rows of a file, or of all files of a folder in the order of their names.

    A folder may be one that the `datasets` library saved, or hold files of the kinds in `READERS`. Where its files or
    folders are named after splits (`train-00000-of-00002.parquet`), only the training split is read.

    Raises:
      ValueError: if there is no such file, or it is of another kind; says what can be read.
    """
    for file in data_files(path):
        yield from READERS["".join(file.suffixes[-2:]) if file.suffix in (".zst", ".gz") else file.suffix](file)


def data_files(path: Path) -> list[Path]:
    """The files that `read_rows` reads.

    Raises:
      ValueError: as `read_rows` does.
    """
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_file():
        if not _is_read(path):
            raise ValueError(f"{path}: expected one of {', '.join(READERS)}, found {path.suffix or 'no ending'!r}")
        return [path]
    found = sorted(file for file in path.rglob("*") if _is_read(file) and not _is_about(file))
    training = [file for file in found if _split_of(file.relative_to(path)) == "train"]
    if not found:
        raise ValueError(f"{path}: expected files of rows ({', '.join(READERS)}) in this folder, found none")
    return training or found


def _is_read(file: Path) -> bool:
    return file.is_file() and any(file.name.endswith(ending) for ending in READERS)


def _is_about(file: Path) -> bool:
    """Files that the `datasets` library writes about its data."""
    return file.name in ("dataset_info.json", "dataset_dict.json", "dataset_infos.json", "state.json")


def _split_of(file: Path) -> str | None:
    """The split that a file or one of its folders is named after."""
    for part in (file.name, *file.parent.parts):
        name = part.split(".")[0].split("-")[0]
        if name in _SPLITS:
            return name
    return None


# -------------------------------------------------------------------------------------------- kinds


def _json_lines(file: Path) -> Iterator[Row]:
    """One row a line; lines of white space are none. Only a newline ends a line: JSON strings may hold other breaks."""
    if file.suffix == ".zst":
        _library("zstandard", file, "gemwright[train]")
    for number, line in enumerate(whole_lines(file), 1):
        if line.strip():
            yield _parsed(file, number, line.rstrip(b"\r\n"))


def _parsed(file: Path, number: int, line: bytes) -> Row:
    try:
        return Row(file, number, json.loads(line.decode("utf-8")), line)
    except UnicodeDecodeError as error:
        fault = f"byte {error.start + 1} is not UTF-8 ({error.object[error.start]:#04x}): save the file as UTF-8"
    except json.JSONDecodeError as error:
        fault = f"expected one JSON object a line, found an error at character {error.pos + 1}: {error.msg}"
    except (RecursionError, ValueError) as error:  # brackets without end, a number of thousands of digits
        fault = f"expected one JSON object a line, found what no reader takes: {str(error).splitlines()[0]}"
    return Row(file, number, None, line, fault)


def _json(file: Path) -> Iterator[Row]:
    """A list of objects; or JSON lines, which many name so."""
    data = file.read_bytes()
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"["):
        yield from _json_lines(file)
        return
    whole = _parsed(file, 1, data.removeprefix(b"\xef\xbb\xbf"))
    if whole.fault:
        raise ValueError(f"{file}: {whole.fault.replace('one JSON object a line', 'a JSON list of objects')}")
    for number, value in enumerate(whole.value, 1):
        yield Row(file, number, value, json.dumps(value).encode())


def _parquet(file: Path) -> Iterator[Row]:
    parquet = _library("pyarrow.parquet", file, "gemwright[parquet]")
    yield from _arrow_rows(file, lambda: parquet.ParquetFile(file).iter_batches())


def _arrow(file: Path) -> Iterator[Row]:
    """As the `datasets` library saves: a stream of record batches."""
    arrow = _library("pyarrow", file, "gemwright[parquet]")
    yield from _arrow_rows(file, lambda: arrow.ipc.open_stream(arrow.memory_map(str(file))))


def _arrow_rows(file: Path, batches: Callable[[], Any]) -> Iterator[Row]:
    """Rows without the keys that hold nothing: columns that other rows need."""
    error: Any = _library("pyarrow", file, "gemwright[parquet]").ArrowInvalid
    number = 0
    try:
        for batch in batches():
            for value in batch.to_pylist():
                number += 1
                yield Row(file, number, {key: part for key, part in value.items() if part is not None})
    except (error, OSError) as reason:
        raise ValueError(f"{file}: damaged, or of another kind, after row {number}: {reason}") from None


def _library(name: str, file: Path, extra: str) -> Any:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        raise ValueError(f"{file}: reading it needs a library: pip install '{extra}', or give JSON lines") from None


READERS: dict[str, Callable[[Path], Iterator[Row]]] = {
    ".jsonl": _json_lines,
    ".jsonl.zst": _json_lines,
    ".jsonl.gz": _json_lines,
    ".json": _json,
    ".parquet": _parquet,
    ".arrow": _arrow,
}
"""By a file's ending, what reads its rows."""
