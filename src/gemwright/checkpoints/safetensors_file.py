"""One safetensors file, mapped into memory.

The format (https://huggingface.co/docs/safetensors): 8 bytes, little-endian, with the length of a
JSON header; the header, `{name: {dtype, shape, data_offsets}}`; then the tensors, without a gap.
Opening a file checks all of that and reads no tensor.
"""

import json
import math
import mmap
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from gemwright.checkpoints.errors import CheckpointError

DTYPES: dict[str, np.dtype[Any]] = {
    "F64": np.dtype(np.float64),
    "F32": np.dtype(np.float32),
    "F16": np.dtype(np.float16),
    "BF16": np.dtype(ml_dtypes.bfloat16),
    "F8_E4M3": np.dtype(ml_dtypes.float8_e4m3fn),
    "F8_E5M2": np.dtype(ml_dtypes.float8_e5m2),
    "I64": np.dtype(np.int64),
    "I32": np.dtype(np.int32),
    "I16": np.dtype(np.int16),
    "I8": np.dtype(np.int8),
    "U64": np.dtype(np.uint64),
    "U32": np.dtype(np.uint32),
    "U16": np.dtype(np.uint16),
    "U8": np.dtype(np.uint8),
    "BOOL": np.dtype(np.bool_),
}
"""The format's names of types."""

_LENGTH_BYTES = 8
_LONGEST_HEADER = 100_000_000  # bytes, the limit of the safetensors library


@dataclass(frozen=True)
class Entry:
    """Where a tensor lies.

    Attributes:
      start, stop: bytes from the beginning of the file.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    stop: int


class SafetensorsFile:
    """A file whose tensors are views of its mapping.

    The mapping lives as long as a view of it. Overwriting or truncating the file in place changes
    the views; renaming or deleting it does not.

    Attributes:
      path: the file.
      entries: its tensors by name.
      metadata: what its writer says of the file.
    """

    def __init__(self, path: Path) -> None:
        """Map a file and check its header.

        Raises:
          CheckpointError: if the file is truncated or not of this format.
          OSError: if it cannot be read.
        """
        self.path = path
        with path.open("rb") as file:
            self.entries, self.metadata = _read_header(path, file.read(_LENGTH_BYTES), file.read, path.stat().st_size)
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._address = np.frombuffer(self._map, np.uint8).ctypes.data

    def view(self, name: str) -> np.ndarray[Any, Any]:
        """A tensor as a read-only view; its pages are read when it is."""
        entry = self.entries[name]
        count = math.prod(entry.shape)
        return np.frombuffer(self._map, entry.dtype, count, entry.start).reshape(entry.shape)

    def release(self, view: np.ndarray[Any, Any]) -> None:
        """Give the pages under a view back to the system; reading it again reads the file again."""
        if sys.platform == "win32":
            return  # has no such call; the system takes mapped pages back when it needs them
        first, last = np.lib.array_utils.byte_bounds(view)
        start = (first - self._address) // mmap.PAGESIZE * mmap.PAGESIZE
        self._map.madvise(mmap.MADV_DONTNEED, start, last - self._address - start)


def _read_header(path: Path, prefix: bytes, read: Any, file_size: int) -> tuple[dict[str, Entry], dict[str, str]]:
    length = int.from_bytes(prefix, "little")
    if len(prefix) < _LENGTH_BYTES or length > min(_LONGEST_HEADER, file_size - _LENGTH_BYTES):
        raise CheckpointError(
            f"{path}: expected a safetensors header of {length:,} bytes, found a file of {file_size:,}: "
            "it is truncated or of another format; fetch it again"
        )
    entries, metadata = _parse_header(path, read(length), _LENGTH_BYTES + length)
    _check_extent(path, entries, _LENGTH_BYTES + length, file_size)
    return entries, metadata


def _parse_header(path: Path, data: bytes, base: int) -> tuple[dict[str, Entry], dict[str, str]]:
    try:
        header = json.loads(data)
        metadata = dict(header.pop("__metadata__", {}))
        return {name: _entry(field, base) for name, field in header.items()}, metadata
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise CheckpointError(f"{path}: its safetensors header is damaged ({error!r}); fetch the file again") from None


def _entry(field: Any, base: int) -> Entry:
    start, stop = field["data_offsets"]
    dtype, shape = DTYPES[field["dtype"]], tuple(field["shape"])
    if not all(isinstance(n, int) and n >= 0 for n in (*shape, start, stop)):
        raise ValueError(f"shape {shape} at {start} to {stop}")
    if stop - start != math.prod(shape) * dtype.itemsize:
        raise ValueError(f"{field['dtype']} {shape} in {stop - start} bytes")
    return Entry(dtype, shape, base + start, base + stop)


def _check_extent(path: Path, entries: dict[str, Entry], base: int, file_size: int) -> None:
    """Tensors follow each other without gap or overlap, from the header to the end of the file."""
    end, last = base, "the header"
    for name, entry in sorted(entries.items(), key=lambda item: (item[1].start, item[1].stop)):
        if entry.start != end:
            raise CheckpointError(
                f"{path}: tensor {name}: expected at byte {end:,}, after {last}, found {entry.start:,}"
            )
        end, last = entry.stop, name
        if end > file_size:
            raise CheckpointError(
                f"{path}: tensor {name}: expected {end:,} bytes in the file, found {file_size:,}: "
                "the file is truncated; fetch it again"
            )
    if end != file_size:
        raise CheckpointError(f"{path}: expected {end:,} bytes, found {file_size:,}; fetch the file again")
