"""Where training text comes from: JSON lines, folders of files, Python's standard library."""

import hashlib
import json
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gemwright.data.compressed import COMPRESSED, whole_lines

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")

ROWS = (".jsonl", *(f".jsonl{ending}" for ending in COMPRESSED))
_TEXT_SUFFIXES = frozenset({".txt", ".md", ".rst", ".py"})
_LIBRARY_SKIPPED = frozenset({"test", "tests", "idle_test", "site-packages", "dist-packages", "__pycache__", "lib2to3"})


@dataclass(frozen=True)
class Document:
    """One text with its origin. `split` says whether it may be trained on; `more` are a row's other fields."""

    id: str
    source: str
    text: str
    split: Split
    more: dict[str, Any] = field(default_factory=dict[str, Any])


def split_of(document_id: str, one_in: int) -> Split:
    """Hold out about one document in `one_in`, by its id alone, so that it never changes sides."""
    digest = hashlib.sha256(document_id.encode()).digest()
    return "heldout" if int.from_bytes(digest[:8], "big") % one_in == 0 else "train"


def read_json_lines(path: Path) -> Iterator[Document]:
    """Rows with `id`, `source`, `text` and `split`; compressed files are decompressed while reading.

    Raises:
      ValueError: if a row is not JSON in UTF-8 or lacks a field, or the file breaks off; names the file and the line.
    """
    for number, line in enumerate(whole_lines(path), 1):
        try:
            yield _document(json.loads(line.decode("utf-8")))
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}, line {number}: expected a row with id, source, text, split: {error!r}") from None


def _document(row: Any) -> Document:
    if not isinstance(row["text"], str):
        raise TypeError(f"text is no text but {type(row['text']).__name__}")
    if row["split"] not in SPLITS:
        raise ValueError(f"split is none of {', '.join(SPLITS)} but {row['split']!r}")
    return Document(row["id"], row["source"], row["text"], row["split"])


def read_folder(folder: Path, one_in: int = 50) -> Iterator[Document]:
    """The JSON lines files below a folder, or, where it has none, its text files, in the order of their names.

    Text files that are not UTF-8 are skipped; about one in `one_in` is held out.

    Raises:
      FileNotFoundError: if the folder holds neither.
    """
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    rows = [path for path in paths if path.name.endswith(ROWS)]
    texts = [path for path in paths if path.suffix.lower() in _TEXT_SUFFIXES]
    if not rows and not texts:
        raise FileNotFoundError(f"{folder}: no {', '.join(ROWS)} or text files ({', '.join(sorted(_TEXT_SUFFIXES))})")
    for path in rows:
        yield from read_json_lines(path)
    for path in [] if rows else texts:
        yield from _read_file(path, path.relative_to(folder).as_posix(), folder.name, one_in)


def standard_library(one_in: int = 40) -> Iterator[Document]:
    """The Python source of the running interpreter's standard library, without its tests."""
    root = Path(sysconfig.get_path("stdlib"))
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        if not _LIBRARY_SKIPPED.intersection(relative.parts):
            yield from _read_file(path, relative.as_posix(), "python_code", one_in)


def _read_file(path: Path, name: str, source: str, one_in: int) -> Iterator[Document]:
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return
    if text.strip():
        yield Document(f"{source}/{name}", source, text, split_of(name, one_in))
