"""Files of any kind of place: found by folder, pattern or address (fsspec), decompressed while reading."""

import bz2
import io
import lzma
import zlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Protocol

from gemwright.data.reading.datasets import only_data

COMPRESSED = (".gz", ".zst", ".bz2", ".xz")
TEXTS = (".txt", ".md", ".rst", ".py")
ROWS = (".jsonl", ".ndjson")
TABLES = (".parquet", ".arrow")
PAGES = (".html", ".htm")
ARCHIVES = (".warc", ".wet", ".warc.txt")
KNOWN = (*ARCHIVES, *TEXTS, *ROWS, *TABLES, *PAGES)  # .warc.txt before .txt

_PIECE = 1 << 16  # compressed bytes taken at a time


class _Decoder(Protocol):
    @property
    def eof(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, /) -> bytes: ...


def find_files(inputs: Sequence[str]) -> list[str]:
    """Files with a known ending, in the order of the inputs and, in a folder or pattern, of their names.

    An input is a file, a folder, a pattern with `*`, or an address such as `s3://...`, `gs://...`, `hf://datasets/...`.

    Raises:
      FileNotFoundError: if an input has no readable file.
      ValueError: if there is no input, or an address of a kind that is not known here.
    """
    if not inputs:
        raise ValueError("no inputs: name files, folders or addresses in the recipe or with --input")
    found: list[str] = []
    for name in inputs:
        paths = _below(name)
        if not paths:
            endings = ", ".join(KNOWN)
            raise FileNotFoundError(f"{name}: no file to read (endings {endings}, also compressed {COMPRESSED})")
        found += paths
    return list(dict.fromkeys(found))


def _below(name: str) -> list[str]:
    import fsspec

    try:
        system, path = fsspec.core.url_to_fs(name)
    except (ImportError, ValueError) as error:  # the package for such addresses is missing, or there is none
        raise ValueError(f"{name}: {error}") from None
    if "*" in name:
        paths = [str(p) for p in system.glob(path) if system.isfile(p)]
    elif system.isdir(path):
        paths = [p for p in only_data(system, map(str, system.find(path))) if kind_of(p)]
    else:
        paths = [path] if system.exists(path) else []
    return [p if "://" not in name else str(system.unstrip_protocol(p)) for p in sorted(paths)]


def kind_of(path: str) -> str:
    """The ending that says how a file is read, compression left off, or an empty text."""
    return next((end for end in KNOWN if plain_name(path).endswith(end)), "")


def plain_name(path: str) -> str:
    """A path in small letters without the ending of its compression."""
    lower = path.lower()
    return next((lower[: -len(end)] for end in COMPRESSED if lower.endswith(end)), lower)


class Stream(io.BufferedReader):
    """The bytes of a file, decompressed. After the last byte `fault` says what cut it short, if anything did."""

    def __init__(self, raw: "_Members") -> None:
        super().__init__(raw, buffer_size=1 << 20)
        self._members = raw

    @property
    def fault(self) -> str | None:
        """`truncated` or `damaged`, once reading has come to that place."""
        return self._members.fault


def open_raw(path: str) -> Any:
    """A file's bytes as they are stored; can be searched."""
    import fsspec

    system, name = fsspec.core.url_to_fs(path)
    return system.open(name, "rb")


def open_file(path: str) -> Stream:
    """A file's bytes, decompressed by its ending.

    Compressed data that ends early or is damaged gives what can be had of it, and then `fault`.

    Raises:
      OSError: if the place cannot be reached; nothing is known of the file then.
    """
    return decompressed(open_raw(path), path)


def decompressed(raw: BinaryIO, path: str) -> Stream:
    """The bytes of a file that is open, as `open_file` gives them."""
    ending = next((end for end in COMPRESSED if path.lower().endswith(end)), None)
    return Stream(_Members(raw, _decoders(ending) if ending else None))


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
            data = self._next_bytes()
            if not data:
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
            data = self._raw.read(_PIECE)
            if not data and self._begun:
                self.fault = "truncated"
            return data
        rest = self._decoder.unused_data.lstrip(b"\0")  # some writers fill blocks with zeros
        while not rest and (data := self._raw.read(_PIECE)):
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


def _decoders(ending: str) -> Callable[[], _Decoder]:
    if ending == ".gz":
        return lambda: zlib.decompressobj(31)
    if ending == ".bz2":
        return bz2.BZ2Decompressor
    if ending == ".xz":
        return lzma.LZMADecompressor
    import zstandard  # an extra: only such files need it

    return lambda: zstandard.ZstdDecompressor().decompressobj()
