"""A file's bytes, decompressed while reading; compressed data that is cut short or damaged is told of."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, Protocol

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
UTF8_MARK = b"\xef\xbb\xbf"  # some programs begin a text with it; it is no part of the text

_PIECE = 1 << 16  # bytes of a plain file taken at a time
_COMPRESSED_PIECE = 1 << 12  # and of a compressed one: Zstandard may make 128 MB of so many, the others less
_PART = 16 << 20  # bytes taken at a time from decoders that can be asked for fewer than they have


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


class Stream(io.BufferedReader):
    """The bytes of a file, decompressed. After the last byte `fault` says what cut it short, if anything did."""

    def __init__(self, raw: "_Members") -> None:
        super().__init__(raw, buffer_size=1 << 20)
        self._members = raw

    @property
    def fault(self) -> str | None:
        """`truncated` or `damaged`, once reading has come to that place."""
        return self._members.fault


def decompressed(raw: BinaryIO, name: str) -> Stream:
    """The bytes of an open file, decompressed by the ending of its name."""
    ending = next((end for end in COMPRESSED if name.lower().endswith(end)), None)
    return Stream(_Members(raw, _decoders(ending) if ending else None))


def whole_lines(path: Path) -> Iterator[bytes]:
    """The lines of a file that must be whole, decompressed by its ending.

    Raises:
      ValueError: after the last whole line, if the compressed data breaks off or is damaged there.
    """
    number = 0
    with decompressed(path.open("rb"), path.name) as stream:
        for number, line in enumerate(stream, 1):
            if stream.fault and not line.endswith(b"\n"):
                break
            yield line.removeprefix(UTF8_MARK) if number == 1 else line
        if stream.fault:
            kind = path.suffix.lower()
            raise ValueError(f"{path}: expected a whole {kind} file, found one that is {stream.fault} at line {number}")


class _Members(io.RawIOBase):
    """The members of a compressed file, one after the other, or a plain file's bytes."""

    def __init__(self, raw: BinaryIO, new: Callable[[], _Decoder] | None) -> None:
        self.fault: str | None = None
        self._raw, self._new = raw, new
        self._decoder = new() if new else None
        self._ready = memoryview(b"")
        self._begun = False  # whether the member at hand has any bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            more = isinstance(self._decoder, _ByParts) and self._decoder.has_more and not self.fault
            data = b"" if more else self._next_bytes()
            if not data and not more:
                return 0
            self._ready = memoryview(self._expand(data))
        count = min(len(buffer), len(self._ready))
        buffer[:count] = self._ready[:count]
        self._ready = self._ready[count:]
        return count

    def _next_bytes(self) -> bytes:
        """What the decoder gets next; nothing at the end, or after a fault."""
        if self.fault:
            return b""
        if self._decoder is None or self._new is None or not self._decoder.eof:
            data = self._raw.read(_COMPRESSED_PIECE if self._decoder else _PIECE)
            if not data and self._begun:
                self.fault = "truncated"
            return data
        rest = self._decoder.unused_data.lstrip(b"\0")  # some writers fill blocks with zeros
        while not rest and (data := self._raw.read(_COMPRESSED_PIECE)):
            rest = data.lstrip(b"\0")
        self._decoder, self._begun = self._new(), False
        return rest

    def _expand(self, data: bytes) -> bytes:
        if self._decoder is None:
            return data
        try:
            self._begun = True
            expanded = self._decoder.decompress(data)
            self._begun = not self._decoder.eof
            return expanded
        except Exception:  # each library has an error of its own
            self.fault = "damaged"
            return b""

    def close(self) -> None:
        self._raw.close()
        super().close()


class _ByParts:
    """A decoder that keeps what is more than a part: 40 bytes of bzip2 may be 45 MB."""

    def __init__(self, whole: bz2.BZ2Decompressor | lzma.LZMADecompressor) -> None:
        self._whole = whole

    @property
    def eof(self) -> bool:
        return self._whole.eof

    @property
    def unused_data(self) -> bytes:
        return self._whole.unused_data

    @property
    def has_more(self) -> bool:
        return not self.eof and not self._whole.needs_input

    def decompress(self, data: bytes, /) -> bytes:
        return self._whole.decompress(data, _PART)


def _decoders(ending: str) -> Callable[[], _Decoder]:
    if ending == ".gz":
        return lambda: zlib.decompressobj(31)
    if ending == ".bz2":
        return lambda: _ByParts(bz2.BZ2Decompressor())
    if ending == ".xz":
        return lambda: _ByParts(lzma.LZMADecompressor())
    import zstandard  # an extra: only such files need it

    return lambda: zstandard.ZstdDecompressor().decompressobj()
