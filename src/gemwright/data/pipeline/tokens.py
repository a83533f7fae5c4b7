"""Kept documents as streams of tokens, one a split, with a table that says which document each token is from."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.core.arrays import map_array
from gemwright.data.columns import Columns
from gemwright.data.documents import SPLITS, Document, Split
from gemwright.data.pipeline.pieces import Piece, shards_of
from gemwright.data.pipeline.shards import ColumnWriter, partial_of, put_in_place, read_shard, write_json
from gemwright.text.tokenizer import Tokenizer, load_tokenizer

_ROWS = 10_000  # of the table, held at a time


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
    streams = {split: _StreamWriter(stage.folder / "pieces", f"{piece.name}.{split}") for split in SPLITS}
    for stream in streams.values():  # also without a document
        stream.add(np.zeros(0, _dtype(tokenizer)))
    for shard in shards_of(stage.before, piece.name):
        for document in read_shard(shard):
            streams[document.split].document(document, _ids(document, tokenizer))
    counts = {split: stream.close() for split, stream in streams.items()}
    write_json(stage.folder / "pieces" / f"{piece.name}.json", {"file": piece.file, "tokens": counts})
    return piece.name


@dataclass(frozen=True)
class Counts:
    """Tokens by split, and of both splits together by source."""

    tokens: dict[str, int]
    sources: dict[str, int]


def join_pieces(stage: TokenStage, names: Sequence[str]) -> Counts:
    """`train.npy` and `heldout.npy`, and a table of documents beside each."""
    manifest = stage.folder / "manifest.json"
    if not manifest.exists():
        sources: Counter[str] = Counter()
        counts = {split: _join(stage.folder, names, split, sources) for split in SPLITS}
        fingerprint = load_tokenizer(Path(stage.tokenizer)).fingerprint
        write_json(manifest, {"tokens": counts, "sources": dict(sources), "tokenizer": fingerprint})
    row = json.loads(manifest.read_text(encoding="utf-8"))
    return Counts(row["tokens"], row["sources"])


def _join(folder: Path, names: Sequence[str], split: Split, sources: Counter[str]) -> int:
    import pyarrow.parquet as pq

    whole = _StreamWriter(folder, split)
    for piece in Columns([{"tokens": folder / "pieces" / f"{name}.{split}.npy"} for name in names]).read("tokens"):
        whole.add(piece)
    for name in names:
        with pq.ParquetFile(folder / "pieces" / f"{name}.{split}.parquet") as table:
            for batch in table.iter_batches():
                whole.table.write_batch(batch)
                for source, tokens in zip(batch["source"].to_pylist(), batch["tokens"].to_pylist(), strict=True):
                    sources[source] += tokens
    return whole.close()


class _StreamWriter:
    """A stream of tokens and the table of its documents, which both appear whole when closed."""

    def __init__(self, folder: Path, name: str) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        folder.mkdir(parents=True, exist_ok=True)
        self._schema = pa.schema({"id": pa.string(), "source": pa.string(), "tokens": pa.int64()})
        self._path, self._partial = folder / f"{name}.parquet", partial_of(folder / f"{name}.parquet")
        self._stream = ColumnWriter(folder / f"{name}.npy")
        self.table = pq.ParquetWriter(self._partial, self._schema)
        self._rows: list[dict[str, Any]] = []

    def add(self, ids: Any) -> None:
        self._stream.add(ids)

    def document(self, document: Document, ids: Any) -> None:
        self.add(ids)
        self._rows.append({"id": document.id, "source": document.source, "tokens": len(ids)})
        if len(self._rows) == _ROWS:
            self._flush()

    def _flush(self) -> None:
        import pyarrow as pa

        self.table.write_batch(pa.RecordBatch.from_pylist(self._rows, self._schema))
        self._rows = []

    def close(self) -> int:
        """Returns how many tokens there are."""
        self._flush()
        self.table.close()
        self._stream.close()
        put_in_place(self._partial, self._path)
        return self._stream.rows


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
