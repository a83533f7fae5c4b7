"""JSON lines and text files to documents."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from gemwright.data.compressed import UTF8_MARK, Stream
from gemwright.data.documents import Document, Split, split_of
from gemwright.data.reading.files import open_file
from gemwright.data.reading.lines import Line, read_lines
from gemwright.data.reading.quarantined import Quarantined

_HELD_OUT = ("heldout", "validation", "valid", "dev", "test", "eval")

Read = Iterator[Document | Quarantined]


@dataclass(frozen=True)
class Origin:
    """What a document gets where its row does not say.

    Attributes:
      file: path or address, as it is opened.
      name: what ids begin with; it does not change with the machine.
      source: the source.
      text_field: which field of a row is its text.
      longest: bytes; a longer record is set aside.
      one_in: about one document in so many is held out of training.
    """

    file: str
    name: str
    source: str
    text_field: str = "text"
    longest: int = 32 << 20
    one_in: int = 50

    def document(self, number: int | str, text: str, row: dict[str, Any]) -> Document:
        """A row's text with the row's id, source and split, or ours; the other fields as they are."""
        more = {key: value for key, value in row.items() if key not in ("id", "source", "split", self.text_field)}
        given = row.get("id")
        id = str(given) if isinstance(given, str | int) and given != "" else f"{self.name}#{number}"
        source, split = row.get("source"), row.get("split")
        held = "heldout" if split in _HELD_OUT else split_of(id, self.one_in)
        side: Split = "train" if split == "train" else held
        return Document(id, source if isinstance(source, str) and source else self.source, text, side, more)


def read_json_rows(origin: Origin) -> Read:
    """Documents of a JSON lines file. Blank lines are no records; the line in which a file breaks off is one."""
    with open_file(origin.file) as stream:
        number = 0
        for line in read_lines(stream, origin.longest):
            if not line.ended and stream.fault:
                break
            number = line.number
            if number == 1:
                line = replace(line, data=line.data.removeprefix(UTF8_MARK))
            if line.data.strip():
                yield _row(line, origin)
        yield from fault_of(stream, origin, f"after line {number}")


def fault_of(stream: Stream, origin: Origin, place: str) -> Iterator[Quarantined]:
    """What cut a stream short, as a record; nothing if it came to its end."""
    if stream.fault:
        yield Quarantined(origin.file, place, stream.fault, "the compressed data breaks off here")


def _row(line: Line, origin: Origin) -> Document | Quarantined:
    place = f"line {line.number}"
    if line.size > origin.longest:
        detail = f"{line.size} bytes, at most {origin.longest} are read"
        return Quarantined(origin.file, place, "too long", detail, line.data[:4096], line.size)
    try:
        row = json.loads(line.data.decode("utf-8"))
        return origin.document(line.number, checked_text(row, origin.text_field), row)
    except UnicodeDecodeError as error:
        return Quarantined(origin.file, place, "not UTF-8", f"at byte {error.start} of the line", line.data)
    except json.JSONDecodeError as error:
        return Quarantined(origin.file, place, "not JSON", str(error), line.data)
    except (ValueError, RecursionError) as error:
        return Quarantined(origin.file, place, "not a row with a text", str(error), line.data)


def checked_text(row: Any, field: str) -> str:
    """The text of a row.

    Raises:
      ValueError: if the row is no object, has no such text, or the text cannot be written as UTF-8.
    """
    if not isinstance(row, dict):
        raise ValueError(f"expected an object, found {type(row).__name__}")
    text: Any = row.get(field)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(text, str):
        raise ValueError(f"expected a text in {field!r}, found {type(text).__name__}")
    try:
        json.dumps(row, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError:
        raise ValueError("half a surrogate pair: no Unicode text") from None
    return text


def read_text_file(origin: Origin) -> Read:
    """A whole file as one document."""
    data, broken = read_whole(origin)
    if broken:
        yield broken
        return
    try:
        yield origin.document("1", data.decode("utf-8-sig"), {"id": origin.name})
    except UnicodeDecodeError as error:
        yield Quarantined(origin.file, "whole file", "not UTF-8", f"at byte {error.start}", data)


def read_whole(origin: Origin) -> tuple[bytes, Quarantined | None]:
    """A file's bytes, or why they cannot be had: it is cut short, or longer than allowed."""
    with open_file(origin.file) as stream:
        data = stream.read(origin.longest + 1)
        if len(data) > origin.longest:
            detail = f"more than the {origin.longest} bytes that are read"
            return b"", Quarantined(origin.file, "whole file", "too long", detail, data[:4096], len(data))
        return data, next(fault_of(stream, origin, "whole file"), None)
