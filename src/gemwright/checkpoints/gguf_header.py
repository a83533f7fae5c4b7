"""The header of a GGUF file: what it says of the model, and where each tensor lies.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little-endian.
Every length is checked against the file before it is followed, and nothing is allocated that a
damaged length could make large: arrays of numbers are views of the file, and of a vocabulary only
the places of its pieces are kept.
"""

import math
import struct
from array import array
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np

from gemwright.checkpoints.gguf_names import TYPES

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_ALIGNMENT = "general.alignment"

_NUMBERS: Mapping[int, np.dtype[Any]] = {
    0: np.dtype("<u1"),
    1: np.dtype("<i1"),
    2: np.dtype("<u2"),
    3: np.dtype("<i2"),
    4: np.dtype("<u4"),
    5: np.dtype("<i4"),
    6: np.dtype("<f4"),
    7: np.dtype(np.bool_),
    10: np.dtype("<u8"),
    11: np.dtype("<i8"),
    12: np.dtype("<f8"),
}
"""The format's types of values, but for strings and arrays."""

_STRING, _ARRAY = 8, 9
_LONGEST_NAME = 65_535  # bytes, of a key or a tensor's name: the format's limit
_LONGEST_STRING = 1 << 26  # bytes; chat templates have some thousands
_MOST_STRINGS = 1 << 22  # in an array; the largest vocabularies and lists of merges have half a million
_MOST_AXES = 4


@dataclass(frozen=True)
class TensorEntry:
    """Where a tensor lies.

    Attributes:
      kind: the format's name of its type, as Q4_0.
      shape: rows and columns, in numbers.
      start, stop: bytes from the beginning of the file.
    """

    kind: str
    shape: tuple[int, ...]
    start: int
    stop: int


class Strings(Sequence[str]):
    """An array of strings in a file, each made when it is asked for."""

    def __init__(self, data: memoryview, starts: "array[int]") -> None:
        """
        Args:
          starts: of each string's text, and one for a string after the last; 8 bytes of length
            precede each.
        """
        self._data, self._starts = data, starts

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> list[str]: ...
    def __getitem__(self, index: int | slice) -> str | list[str]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        i = range(len(self))[index]
        return self._text(self._starts[i], self._starts[i + 1] - _U64.size)

    def __iter__(self) -> Iterator[str]:
        starts = iter(self._starts)
        start = next(starts)
        for following in starts:
            yield self._text(start, following - _U64.size)
            start = following

    def _text(self, start: int, stop: int) -> str:
        """Raises ValueError if it is no UTF-8."""
        return str(self._data[start:stop], "utf-8")


def read_header(data: memoryview) -> tuple[dict[str, Any], dict[str, TensorEntry]]:
    """The metadata by key, and the tensors by name.

    Numbers and strings are Python's; arrays are NumPy's, or `Strings`, and views of `data`.

    Args:
      data: the bytes of the whole file.

    Raises:
      ValueError: what was expected and found, and where; the file is truncated, damaged, or of
        another format or version.
    """
    cursor = _Cursor(data)
    tensors, pairs = _counts(cursor)
    metadata: dict[str, Any] = {}
    for _ in range(pairs):
        key = cursor.name("a key")
        if key in metadata:
            raise ValueError(f"{key}: expected one such key, found two")
        metadata[key] = cursor.value(key, cursor.number(_U32, key))
    infos: dict[str, tuple[str, tuple[int, ...], int]] = {}
    for _ in range(tensors):
        name = cursor.name("the name of a tensor")
        if name in infos:
            raise ValueError(f"tensor {name}: expected one of this name, found two")
        infos[name] = _info(cursor, name)
    return metadata, _placed(infos, cursor.at, _alignment(metadata), len(data))


def _counts(cursor: "_Cursor") -> tuple[int, int]:
    """Of tensors, and of keys."""
    if (found := cursor.bytes(len(MAGIC), "the first bytes")) != MAGIC:
        raise ValueError(f"expected the first bytes {MAGIC!r}, found {found!r}: it is of another format")
    version = cursor.number(_U32, "the version")
    if version & 0xFFFF == 0:
        raise ValueError("expected little-endian numbers, found big-endian ones; make a file for this kind of machine")
    if version not in _VERSIONS:
        raise ValueError(f"version: expected 2 or 3, found {version}; convert the model again with today's llama.cpp")
    return cursor.number(_U64, "the number of tensors"), cursor.number(_U64, "the number of keys")


def _alignment(metadata: Mapping[str, Any]) -> int:
    alignment = metadata.get(_ALIGNMENT, 32)
    if not isinstance(alignment, int) or alignment < 1 or alignment & (alignment - 1):
        raise ValueError(f"{_ALIGNMENT}: expected a power of two, found {alignment!r}")
    return alignment


# ---------------------------------------------------------------------------------------- tensors


def _info(cursor: "_Cursor", name: str) -> tuple[str, tuple[int, ...], int]:
    """Type, shape and offset."""
    where = f"tensor {name}"
    axes = cursor.number(_U32, where)
    if axes > _MOST_AXES:
        raise ValueError(f"{where}: expected at most {_MOST_AXES} axes, found {axes:,}")
    # the format counts from the last axis
    shape = tuple(reversed([cursor.number(_U64, where) for _ in range(axes)]))
    number, offset = cursor.number(_U32, where), cursor.number(_U64, where)
    kind = next((kind for kind, each in TYPES.items() if each.number == number), None)
    if kind is None:
        raise ValueError(f"{where}: expected a type of llama.cpp's, found number {number}")
    return kind, shape, offset


def _placed(
    infos: Mapping[str, tuple[str, tuple[int, ...], int]], header: int, alignment: int, file_size: int
) -> dict[str, TensorEntry]:
    """Tensors follow each other from the first aligned byte behind the header; gaps only align the next one."""
    entries: dict[str, TensorEntry] = {}
    base = header + -header % alignment
    end = base
    for name, (kind, shape, offset) in infos.items():
        if base + offset != end:
            raise ValueError(f"tensor {name}: expected at byte {end:,} of the file, found {base + offset:,}")
        stop = end + _size(name, kind, shape)
        if stop > file_size:
            raise ValueError(
                f"tensor {name}: expected {stop:,} bytes in the file, found {file_size:,}: the file is truncated"
            )
        entries[name] = TensorEntry(kind, shape, end, stop)
        end = stop + -stop % alignment
    return entries


def _size(name: str, kind: str, shape: tuple[int, ...]) -> int:
    """Bytes."""
    block, block_bytes = TYPES[kind].block, TYPES[kind].block_bytes
    columns = shape[-1] if shape else 1
    if columns % block:
        raise ValueError(f"tensor {name}: expected rows of whole blocks of {block} ({kind}), found {columns:,} numbers")
    return math.prod(shape) // block * block_bytes


# ----------------------------------------------------------------------------------------- values

_U32, _U64 = struct.Struct("<I"), struct.Struct("<Q")


class _Cursor:
    """Reads on from a place in the file."""

    def __init__(self, data: memoryview) -> None:
        self.data, self.at = data, 0

    def bytes(self, count: int, what: str) -> bytes:
        return bytes(self.data[self._pass(count, what) : self.at])

    def number(self, kind: struct.Struct, what: str) -> int:
        return kind.unpack_from(self.data, self._pass(kind.size, what))[0]

    def text(self, what: str, longest: int) -> str:
        length = self.number(_U64, what)
        if length > longest:
            raise ValueError(f"{what}: expected at most {longest:,} bytes, found a length of {length:,}")
        return self.bytes(length, what).decode()

    def name(self, what: str) -> str:
        """Of a key or a tensor: printable, since it stands in messages."""
        name = self.text(what, _LONGEST_NAME)
        if not name.isprintable():
            raise ValueError(f"{what}: expected printable text, found {name[:40]!r}")
        return name

    def value(self, key: str, kind: int) -> Any:
        if kind == _STRING:
            return self.text(key, _LONGEST_STRING)
        if kind == _ARRAY:
            element, count = self.number(_U32, key), self.number(_U64, key)
            return self._strings(key, count) if element == _STRING else self._numbers(key, element, count)
        return self._numbers(key, kind, 1)[0].item()

    def _numbers(self, key: str, kind: int, count: int) -> np.ndarray[Any, Any]:
        if kind not in _NUMBERS:
            raise ValueError(f"{key}: expected a number, a string or an array of such, found type {kind}")
        start = self._pass(count * _NUMBERS[kind].itemsize, key)
        data = np.frombuffer(self.data[start : self.at], np.uint8)
        if _NUMBERS[kind] == np.bool_ and np.any(data > 1):
            raise ValueError(f"{key}: expected 0 or 1 for a truth value, found {data.max()}")
        return data.view(_NUMBERS[kind])

    def _strings(self, key: str, count: int) -> Strings:
        if count > _MOST_STRINGS:
            raise ValueError(f"{key}: expected at most {_MOST_STRINGS:,} strings, found {count:,}")
        data, size, length_at, width = self.data, len(self.data), _U64.unpack_from, _U64.size
        starts, at = array("Q"), self.at + width
        for _ in range(count):  # the loop of a whole vocabulary: plain and quick
            if at > size:
                raise ValueError(_cut(key, width, at - width, size))
            starts.append(at)
            at += length_at(data, at - width)[0] + width
        self._pass(at - width - self.at, key)
        starts.append(at)
        return Strings(data, starts)

    def _pass(self, count: int, what: str) -> int:
        """Go `count` bytes on; returns where they begin."""
        start = self.at
        if count > len(self.data) - start:
            raise ValueError(_cut(what, count, start, len(self.data)))
        self.at += count
        return start


def _cut(what: str, count: int, start: int, file_size: int) -> str:
    return f"{what}: expected {count:,} bytes from byte {start:,}, found a file of {file_size:,}: it is truncated"
