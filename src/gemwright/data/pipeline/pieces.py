"""One piece of one step: documents in, shards and an account out. Done again, it gives the same files."""

import json
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from gemwright.core.arrays import map_array
from gemwright.data.columns import Columns
from gemwright.data.documents import Document
from gemwright.data.pipeline.account import Account
from gemwright.data.pipeline.recipe import Recipe
from gemwright.data.pipeline.shards import ColumnWriter, RowWriter, ShardWriter, read_shard, write_json
from gemwright.data.reading.quarantined import Quarantined
from gemwright.data.reading.read import origin_of, read_documents
from gemwright.data.step import Arrays, Global, Step


@dataclass(frozen=True)
class Stage:
    """A step's place on disk.

    Attributes:
      folder: holds pieces/ (accounts, each the sign that its piece is done), shards/, sketches/, decision/,
        quarantine/.
      before: the stage whose shards this one reads; None reads the recipe's files.
    """

    folder: Path
    step: Step
    recipe: Recipe
    before: Path | None

    def is_done(self, piece: str) -> bool:
        return (self.folder / "pieces" / f"{piece}.json").exists()

    def is_sketched(self, piece: str) -> bool:
        return (self.folder / "sketches" / f"{piece}.json").exists()

    def is_decided(self) -> bool:
        return (self.folder / "decision" / "columns.json").exists()

    def decision(self) -> Arrays:
        """What was decided, read from the disk as it is used."""
        return {name: map_array(path) for name, path in _columns(self.folder / "decision" / "columns.json").items()}


@dataclass(frozen=True)
class Piece:
    """A file of the recipe, or what came of it in the stage before.

    Attributes:
      name: a number, in the files' order.
      file: the recipe's file.
      first: number of its first document among all that come into the step.
    """

    name: str
    file: str
    first: int

    def to_text(self) -> str:
        return json.dumps([self.name, self.file, self.first])

    @classmethod
    def from_text(cls, text: str) -> "Piece":
        return cls(*json.loads(text))


def account_of(folder: Path, piece: str) -> tuple[Account, list[str]]:
    """A finished piece's account and the names of its shards."""
    row = json.loads((folder / "pieces" / f"{piece}.json").read_text(encoding="utf-8"))
    return Account.from_json(row["account"]), row["shards"]


def shards_of(folder: Path, piece: str) -> Iterator[Path]:
    for name in account_of(folder, piece)[1]:
        yield folder / "shards" / name


def sketch_piece(stage: Stage, text: str) -> str:
    """Write what the decision needs to know of a piece."""
    piece, step = Piece.from_text(text), stage.step
    assert isinstance(step, Global)
    first = piece.first
    columns = {name: _column(stage.folder / "sketches", piece.name, name) for name in step.sketch([], first)}
    for batch in _batches(_documents(stage, piece), stage.recipe.batch):
        documents = [d for d in batch if isinstance(d, Document)]
        _add(columns, step.sketch(documents, first))
        first += len(documents)
    _add(columns, step.sketch([], first))  # a piece without documents has columns without rows
    _close(columns, stage.folder / "sketches" / f"{piece.name}.json")
    return piece.name


def decide(stage: Stage, pieces: Sequence[str]) -> None:
    """Write what all sketches together say."""
    step = stage.step
    assert isinstance(step, Global)
    sketches = Columns([_columns(stage.folder / "sketches" / f"{name}.json") for name in pieces])
    with tempfile.TemporaryDirectory(prefix=".scratch-", dir=stage.folder) as scratch:
        decision = step.decide(sketches, Path(scratch))
    columns = {name: _column(stage.folder / "decision", "all", name) for name in decision}
    _add(columns, decision)
    _close(columns, stage.folder / "decision" / "columns.json")


def _column(folder: Path, piece: str, name: str) -> ColumnWriter:
    return ColumnWriter(folder / f"{piece}.{name}.npy")


def _add(columns: dict[str, ColumnWriter], arrays: Arrays) -> None:
    for name, array in arrays.items():
        columns[name].add(array)


def _close(columns: dict[str, ColumnWriter], index: Path) -> None:
    """Put the columns in place, and then their index, which is the sign that they are whole."""
    for column in columns.values():
        column.close()
    write_json(index, {name: column.path.name for name, column in columns.items()})


def _columns(index: Path) -> dict[str, Path]:
    return {name: index.parent / file for name, file in json.loads(index.read_text(encoding="utf-8")).items()}


def judge_piece(stage: Stage, text: str) -> str:
    """Write what is kept of a piece, what could not be read, and the account of both."""
    piece = Piece.from_text(text)
    decision = stage.decision() if isinstance(stage.step, Global) else {}
    account = Account()
    writer = ShardWriter(stage.folder / "shards", piece.name, stage.recipe.shard)
    quarantine = RowWriter(stage.folder / "quarantine" / f"{piece.name}.jsonl")
    first = piece.first
    for batch in _batches(_documents(stage, piece), stage.recipe.batch):
        documents = [d for d in batch if isinstance(d, Document)]
        _judge(stage.step, documents, first, decision, account, writer)
        first += len(documents)
        for record in batch:
            if isinstance(record, Quarantined):
                account.set_aside(record.reason, record.records)
                quarantine.add(record.to_json())
    writer.flush()
    quarantine.close()
    account.check()
    entry = {"file": piece.file, "account": account.to_json(), "shards": writer.names}
    write_json(stage.folder / "pieces" / f"{piece.name}.json", entry)
    return piece.name


def _judge(
    step: Step, documents: list[Document], first: int, decision: Arrays, account: Account, writer: ShardWriter
) -> None:
    verdicts = step.judge(documents, first, decision)
    texts = verdicts.texts or [document.text for document in documents]
    account.read += len(documents)
    account.counts.update(verdicts.counts)
    for document, reason, text in zip(documents, verdicts.reasons, texts, strict=True):
        account.came.see(document.source, len(document.text))
        if reason is None and text.strip():
            account.keep(document.source, len(text))
            writer.add(document if text == document.text else replace(document, text=text))
        else:
            account.drop(reason or "nothing left", document.id, document.text)


def _documents(stage: Stage, piece: Piece) -> Iterator[Document | Quarantined]:
    if stage.before is not None:
        for path in shards_of(stage.before, piece.name):
            yield from read_shard(path)
        return
    recipe = stage.recipe
    yield from read_documents(origin_of(piece.file, recipe.longest, recipe.text_field, recipe.one_in))


def _batches(
    documents: Iterable[Document | Quarantined], characters: int
) -> Iterator[Sequence[Document | Quarantined]]:
    batch: list[Document | Quarantined] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text) if isinstance(document, Document) else len(document.data)
        if size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
