"""WARC and WET archives to documents: web pages as they were answered, or their text.

The records are framed here, so that one with a wrong length costs itself alone; what stands in
them (headers, chunked and compressed bodies) is warcio's to read.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Protocol

from gemwright.data.documents import Document
from gemwright.data.reading.files import open_file
from gemwright.data.reading.pages import main_text
from gemwright.data.reading.quarantined import Quarantined
from gemwright.data.reading.rows import Origin, Read, fault_of

_TEXTS = ("response", "resource", "conversion")  # the other kinds are about documents, and none themselves
_LONGEST_HEADER = 1 << 20
_LONGEST_LENGTH = 20  # digits


@dataclass(frozen=True)
class Framed:
    """The bytes of one record: its header with the empty line that ends it, and its body; or why there is none."""

    number: int
    header: bytes
    body: bytes
    fault: str | None = None
    kind: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "kind", _field(self.header, b"warc-type").decode("latin-1").lower())


def read_archive(origin: Origin) -> Read:
    """The pages and texts of an archive, one document each."""
    with open_file(origin.file) as stream:
        number = 0
        for record in frame(stream, origin.longest):
            number = record.number
            if record.fault:
                place = f"record {number}"
                yield Quarantined(origin.file, place, record.fault, "", record.header + record.body[:4096])
            elif record.kind in _TEXTS:
                yield _document(record, origin)
        yield from fault_of(stream, origin, f"after record {number}")


def _document(record: Framed, origin: Origin) -> Document | Quarantined:
    names = {"id": b"warc-record-id", "url": b"warc-target-uri", "date": b"warc-date"}
    row = {key: _field(record.header, name).decode("latin-1").strip("<>") for key, name in names.items()}
    try:
        text = record.body.decode("utf-8").strip() if record.kind == "conversion" else _page(record)
        return origin.document(record.number, text, row)
    except ValueError as error:
        place, size = f"record {record.number}", len(record.body)
        return Quarantined(origin.file, place, "no page", str(error).strip(), record.body[:4096], size)


def _page(record: Framed) -> str:
    """The text of what a server answered.

    Raises:
      ValueError: if it is damaged, or no text.
    """
    from warcio.recordloader import ArcWarcRecordLoader

    try:
        parsed: Any = ArcWarcRecordLoader().parse_record_stream(io.BytesIO(record.header + record.body))
        body: bytes = parsed.content_stream().read()
    except Exception as error:  # headers may be damaged in any way, and each has an error of its own
        raise ValueError(f"damaged: {error!r}") from None
    said = (parsed.http_headers or parsed.rec_headers).get_header("Content-Type") or ""
    media, _, parameters = said.partition(";")
    if "html" in media.lower() or not media:
        return main_text(body, parameters.partition("charset=")[2].strip(" \"'") or None)
    if media.strip().lower() == "text/plain":
        return body.decode("utf-8")
    raise ValueError(f"content of type {media.strip()}")


class _Bytes(Protocol):
    @property
    def fault(self) -> str | None: ...
    def read(self, size: int, /) -> bytes: ...
    def readline(self, size: int, /) -> bytes: ...


def frame(stream: _Bytes, longest: int) -> Iterator[Framed]:
    """The records of an archive. A length is believed only where a record or the end follows."""
    number, (_, line) = 0, _next_line(stream)
    while line:
        number += 1
        header = line + _header(stream) if line.startswith(b"WARC/") else b""
        length = _length(header)
        if length is None or length > longest:
            why = "no record" if not header else "too long" if length else "no length"
            skipped, line = _to_next_record(stream, 4096)
            if not stream.fault:
                yield Framed(number, header, skipped, why)
            continue
        body = stream.read(length)
        gap, line = _next_line(stream)
        if stream.fault and not line:
            return  # the record in which the file breaks off: its reader tells
        if not line or line.startswith(b"WARC/"):
            yield Framed(number, header, body, "truncated" if len(body) < length else None)
        elif (cut := body.find(b"\nWARC/1.")) >= 0:  # the length is too large
            stream = _Joined(body[cut + 1 :] + gap + line, stream)
            _, line = _next_line(stream)
            yield Framed(number, header, body[: cut + 1])
        else:  # the length is too small
            rest, after = _to_next_record(stream, longest)
            yield Framed(number, header, body + line + rest)
            line = after


class _Joined:
    """Bytes put back before the rest of a stream."""

    def __init__(self, data: bytes, rest: _Bytes) -> None:
        self._front, self._rest = io.BytesIO(data), rest

    @property
    def fault(self) -> str | None:
        return self._rest.fault

    def read(self, size: int, /) -> bytes:
        front = self._front.read(size)
        return front + self._rest.read(size - len(front)) if len(front) < size else front

    def readline(self, size: int, /) -> bytes:
        front = self._front.readline(size)
        return front if front.endswith(b"\n") else front + self._rest.readline(size)


def _next_line(stream: _Bytes) -> tuple[bytes, bytes]:
    """Empty lines, and the next one that is not."""
    gap = b""
    while line := stream.readline(_LONGEST_HEADER):
        if line.strip():
            return gap, line
        gap += line
    return gap, b""


def _header(stream: _Bytes) -> bytes:
    lines: list[bytes] = []
    size = 0
    while (line := stream.readline(_LONGEST_HEADER)) and size < _LONGEST_HEADER:
        lines.append(line)
        size += len(line)
        if not line.strip():
            break
    return b"".join(lines)


def _to_next_record(stream: _Bytes, most: int) -> tuple[bytes, bytes]:
    """What is skipped, its first `most` bytes, and the line that begins the next record."""
    skipped = bytearray()
    while line := stream.readline(_LONGEST_HEADER):
        if line.startswith(b"WARC/1."):
            return bytes(skipped), line
        skipped += line[: most - len(skipped)]
    return bytes(skipped), b""


def _length(header: bytes) -> int | None:
    value = _field(header, b"content-length")
    return int(value) if value.isdigit() and len(value) < _LONGEST_LENGTH else None


def _field(header: bytes, name: bytes) -> bytes:
    for line in header.split(b"\n"):
        key, _, value = line.partition(b":")
        if key.strip().lower() == name:
            return value.strip()
    return b""
