"""What became of the records of a piece of work: in = kept + dropped + quarantined, always."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

_SAMPLES = 3  # of each reason and piece
_SHOWN = 300  # characters of a sample


@dataclass
class Account:
    """Counts of records.

    Attributes:
      dropped: records by reason.
      quarantined: records by reason.
      counts: what else was done, by name.
      samples: by reason, some of what it dropped: ids and beginnings.
    """

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter[str])
    quarantined: Counter[str] = field(default_factory=Counter[str])
    counts: Counter[str] = field(default_factory=Counter[str])
    samples: dict[str, list[dict[str, str]]] = field(default_factory=dict[str, list[dict[str, str]]])

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
        return {"read": self.read, "kept": self.kept, **counters, "samples": self.samples}

    @classmethod
    def from_json(cls, row: dict[str, Any]) -> "Account":
        counters = {name: Counter[str](row[name]) for name in ("dropped", "quarantined", "counts")}
        return cls(row["read"], row["kept"], **counters, samples=row["samples"])
