"""Records that could not be read: where they are, why, and their first bytes."""

import base64
from dataclasses import dataclass
from typing import Any

_HEAD = 200  # bytes shown to a person
_WHOLE = 1 << 16  # records up to this many bytes are kept whole, so that they can be mended


@dataclass(frozen=True)
class Quarantined:
    """One record that is not a document.

    Attributes:
      file: path or address it came from.
      place: where in the file, in words: a line, a row group, a byte.
      reason: what is wrong; the same words for the same fault, so that reasons can be counted.
      detail: what differs from record to record.
      data: its bytes, or the first of them.
      size: how many bytes it has.
      records: how many records are lost with it, where the file tells (a row group); else 1.
    """

    file: str
    place: str
    reason: str
    detail: str = ""
    data: bytes = b""
    size: int = 0
    records: int = 1

    def to_json(self) -> dict[str, Any]:
        row: dict[str, Any] = {
            "file": self.file,
            "place": self.place,
            "reason": self.reason,
            "detail": self.detail,
            "records": self.records,
            "bytes": self.size or len(self.data),
            "head": self.data[:_HEAD].decode("utf-8", "backslashreplace"),
        }
        if 0 < len(self.data) <= _WHOLE and self.size in (0, len(self.data)):
            row["base64"] = base64.b64encode(self.data).decode()
        return row
