"""Kept documents as streams of tokens, one a split, with a table that says which document each token is from."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.core.arrays import map_array
from gemwright.data.documents import Document, Split
from gemwright.data.pipeline.pieces import Piece, shards_of
from gemwright.data.pipeline.shards import read_shard, write_json, write_whole
from gemwright.text.tokenizer import Tokenizer, load_tokenizer

SPLITS: tuple[Split, ...] = ("train", "heldout")


@dataclass(frozen=True)
class TokenStage:
    """Where tokens are written, from which stage's shards, with which tokenizer."""

    folder: Path
    before: Path
    tokenizer: str

    def is_done(self, piece: str) -> bool:
        return (self.folder / "pieces" / f"{piece}.json").exists()


def tokenise_piece(stage: TokenStage, text: str) -> str:
    """A piece's documents as tokens: each between BOS and EOS, one after the other, in the stream of its split."""
    piece = Piece.from_text(text)
    tokenizer = load_tokenizer(Path(stage.tokenizer))
    streams: dict[str, list[Any]] = {split: [] for split in SPLITS}
    tables: dict[str, list[tuple[str, str, int]]] = {split: [] for split in SPLITS}
    for shard in shards_of(stage.before, piece.name):
        for document in read_shard(shard):
            ids = _ids(document, tokenizer)
            streams[document.split].append(ids)
            tables[document.split].append((document.id, document.source, len(ids)))
    for split in SPLITS:
        whole = np.concatenate(streams[split]) if streams[split] else np.zeros(0, _dtype(tokenizer))
        write_whole(stage.folder / "pieces" / f"{piece.name}.{split}.npy", _saving(whole))
        _write_table(stage.folder / "pieces" / f"{piece.name}.{split}.parquet", tables[split])
    counts = {split: sum(row[2] for row in tables[split]) for split in SPLITS}
    write_json(stage.folder / "pieces" / f"{piece.name}.json", {"file": piece.file, "tokens": counts})
    return piece.name


def join_pieces(stage: TokenStage, names: Sequence[str]) -> dict[str, int]:
    """`train.npy` and `heldout.npy`, and a table of documents beside each; returns tokens by split."""
    manifest = stage.folder / "manifest.json"
    if not manifest.exists():
        counts: dict[str, int] = {}
        for split in SPLITS:
            parts = [stage.folder / "pieces" / f"{name}.{split}.npy" for name in names]
            counts[split] = sum(len(map_array(part)) for part in parts)
            _join_streams(stage.folder / f"{split}.npy", parts, counts[split])
            tables = [stage.folder / "pieces" / f"{name}.{split}.parquet" for name in names]
            _join_tables(stage.folder / f"{split}.parquet", tables)
        fingerprint = load_tokenizer(Path(stage.tokenizer)).fingerprint
        write_json(manifest, {"tokens": counts, "tokenizer": fingerprint})
    return json.loads(manifest.read_text(encoding="utf-8"))["tokens"]


@dataclass(frozen=True)
class Place:
    """Where a token is from: its document, and which of the document's tokens it is (0 is BOS)."""

    document: str
    source: str
    token: int


def trace(folder: Path, split: Split, index: int) -> Place:
    """The document of one token of a run's stream.

    Args:
      folder: of the run.
      index: from the stream's beginning.

    Raises:
      IndexError: if the stream has no such token.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "tokens" / f"{split}.parquet")
    ends = np.cumsum(table["tokens"].to_numpy())
    total = int(ends[-1]) if len(ends) else 0
    if not 0 <= index < total:
        raise IndexError(f"token {index}: the {split} stream has {total}")
    row = int(np.searchsorted(ends, index, side="right"))
    begin = int(ends[row - 1]) if row else 0
    return Place(table["id"][row].as_py(), table["source"][row].as_py(), index - begin)


def streams_by_source(folder: Path, split: Split = "train") -> dict[str, Any]:
    """The stream of a run taken apart by the documents' sources, as a mixture wants it; held in memory."""
    import pyarrow.parquet as pq

    table = pq.read_table(folder / "tokens" / f"{split}.parquet")
    stream = map_array(folder / "tokens" / f"{split}.npy")
    ends = np.cumsum(table["tokens"].to_numpy())
    parts: dict[str, list[Any]] = {}
    for source, begin, end in zip(table["source"].to_pylist(), [0, *ends[:-1]], ends, strict=True):
        parts.setdefault(source, []).append(stream[begin:end])
    return {source: np.concatenate(found) for source, found in parts.items()}


def _ids(document: Document, tokenizer: Tokenizer) -> Any:
    ids = [tokenizer.bos_id, *tokenizer.encode(document.text), tokenizer.eos_id]
    return np.asarray(ids, _dtype(tokenizer))


def _dtype(tokenizer: Tokenizer) -> Any:
    return np.uint16 if tokenizer.vocab_size <= 1 << 16 else np.uint32


def _saving(array: Any) -> Any:
    def write(partial: Path) -> None:
        with partial.open("wb") as file:
            np.save(file, array)

    return write


def _join_streams(path: Path, parts: Sequence[Path], total: int) -> None:
    def write(partial: Path) -> None:
        dtype = map_array(parts[0]).dtype
        whole = np.lib.format.open_memmap(partial, mode="w+", dtype=dtype, shape=(total,))
        at = 0
        for part in parts:
            stream = map_array(part)
            whole[at : at + len(stream)] = stream
            at += len(stream)
        whole.flush()

    write_whole(path, write)


def _write_table(path: Path, rows: Sequence[tuple[str, str, int]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = list(zip(*rows, strict=True)) or [(), (), ()]
    kinds = {"id": pa.string(), "source": pa.string(), "tokens": pa.int64()}
    table = pa.table({name: pa.array(c, kind) for (name, kind), c in zip(kinds.items(), columns, strict=True)})
    write_whole(path, lambda partial: pq.write_table(table, partial))


def _join_tables(path: Path, parts: Sequence[Path]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    table = pa.concat_tables([pq.read_table(part) for part in parts])
    write_whole(path, lambda partial: pq.write_table(table, partial))
