"""The kept documents of a run as JSON lines."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from gemwright.data.documents import Document
from gemwright.data.pipeline.shards import read_shard, write_whole


def export_rows(shards: Iterable[Path], path: Path) -> int:
    """Write documents as JSON lines, compressed if the name ends in .gz or .zst; returns how many."""
    count = 0

    def write(partial: Path) -> None:
        nonlocal count
        with open_lines(partial, path.suffix) as file:
            for shard in shards:
                for document in read_shard(shard):
                    file.write((json.dumps(row_of(document), ensure_ascii=False) + "\n").encode())
                    count += 1

    write_whole(path, write)
    return count


def row_of(document: Document) -> dict[str, Any]:
    """A document's row, its other fields at the end; one named like ours (a `text` that was not the text) gives way."""
    own = {"id": document.id, "source": document.source, "text": document.text, "split": document.split}
    return {**own, **document.more, **own}


def open_lines(path: Path, suffix: str) -> Any:
    """A file to write bytes of lines into, compressed if the suffix is .gz or .zst."""
    if suffix == ".gz":
        import gzip

        return gzip.GzipFile(path, "wb", mtime=0)
    if suffix == ".zst":
        import zstandard

        return zstandard.open(path, "wb")
    return path.open("wb")


def export_quarantine(run: Path, path: Path) -> None:
    """What a run set aside, as one file; no file if there was nothing."""
    found = sorted(run.glob("00-*/quarantine/*.jsonl"))
    if not found:
        path.unlink(missing_ok=True)
        return
    write_whole(path, lambda partial: _join(found, partial))


def _join(parts: Iterable[Path], whole: Path) -> None:
    with whole.open("wb") as file:
        for part in parts:
            file.write(part.read_bytes())
