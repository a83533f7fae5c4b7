"""What became of the records of a piece of work: in = kept + dropped + quarantined, always."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_SAMPLES = 3  # of each reason and piece
_SHOWN = 300  # characters of a sample
_SOURCES = 100  # counted by name; documents of further ones are counted together
OTHERS = "(others)"


@dataclass
class Shape:
    """What a set of documents looks like.

    Attributes:
      lengths: documents by length: under `n` those of 2**(n - 1) to 2**n - 1 characters.
      sources: documents by source.
      characters: of their texts, by source.
    """

    lengths: Counter[str] = field(default_factory=Counter[str])
    sources: Counter[str] = field(default_factory=Counter[str])
    characters: Counter[str] = field(default_factory=Counter[str])

    def see(self, source: str, characters: int) -> None:
        self.lengths[str(characters.bit_length())] += 1
        self._count(source, 1, characters)

    def add(self, other: "Shape") -> None:
        self.lengths.update(other.lengths)
        for source, documents in other.sources.items():
            self._count(source, documents, other.characters[source])

    def _count(self, source: str, documents: int, characters: int) -> None:
        name = source if source in self.sources or len(self.sources) < _SOURCES else OTHERS
        self.sources[name] += documents
        self.characters[name] += characters

    def to_json(self) -> dict[str, dict[str, int]]:
        return {name: dict(getattr(self, name)) for name in ("lengths", "sources", "characters")}

    @classmethod
    def from_json(cls, row: dict[str, dict[str, int]]) -> "Shape":
        return cls(*(Counter[str](row[name]) for name in ("lengths", "sources", "characters")))


@dataclass
class Account:
    """Counts of records.

    Attributes:
      dropped: records by reason.
      quarantined: records by reason.
      counts: what else was done, by name.
      samples: by reason, some of what it dropped: ids and beginnings.
      came, left: the documents that came in, and those that were kept, as they then were.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    quarantined: Counter[str] = field(default_factory=Counter[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict[str, list[dict[str, str]]])

    came: Shape = field(default_factory=Shape)
    left: Shape = field(default_factory=Shape)

    def keep(self, source: str, characters: int) -> None:
        self.kept += 1
        self.left.see(source, characters)

    def drop(self, reason: str, id: str, text: str) -> None:
        self.dropped[reason] += 1
        held = self.samples.setdefault(reason, [])
        if len(held) < _SAMPLES:
            held.append({"id": id, "text": text[:_SHOWN]})

    def set_aside(self, reason: str, records: int) -> None:
        self.read += records
        self.quarantined[reason] += records

    def add(self, other: "Account") -> None:
        """Take in the counts of another piece of the same step."""
        self.read, self.kept = self.read + other.read, self.kept + other.kept
        self.dropped.update(other.dropped)
        self.quarantined.update(other.quarantined)
        self.counts.update(other.counts)
        self.came.add(other.came)
        self.left.add(other.left)
        for reason, found in other.samples.items():
            held = self.samples.setdefault(reason, [])
            held.extend(found[: _SAMPLES - len(held)])

    def check(self) -> None:
        """
        Raises:
          AssertionError: if a record is unaccounted for, which is a defect of this program.
        """
        parts = self.kept + self.dropped.total() + self.quarantined.total()
        assert self.read == parts, f"{self.read} records in, {parts} accounted for"

    def to_json(self) -> dict[str, Any]:
        counters = {name: dict(getattr(self, name)) for name in ("dropped", "quarantined", "counts")}
        shapes = {"came": self.came.to_json(), "left": self.left.to_json()}
        return {"read": self.read, "kept": self.kept, **counters, **shapes, "samples": self.samples}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Account":
        counters = {name: Counter[str](row[name]) for name in ("dropped", "quarantined", "counts")}
        came, left = Shape.from_json(row["came"]), Shape.from_json(row["left"])
        return cls(row["read"], row["kept"], **counters, samples=row["samples"], came=came, left=left)
