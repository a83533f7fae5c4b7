"""One .npz file of NumPy arrays, mapped into memory.

The format: a zip archive with one .npy file an array (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html).
Opening a file reads the headers alone. NumPy stores bfloat16 as two bytes of no type, and so they are read.
"""

import io
import math
import mmap
import struct
import tokenize
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.stored import BFLOAT16

_LOCAL_HEADER = 30  # bytes, of a file in a zip archive; its name and an extra field follow
_LONGEST_HEADER = 1 << 16  # bytes of a .npy file before its numbers
_PIECE = 1 << 24  # bytes whose sum is taken at once


@dataclass(frozen=True)
class Entry:
    """Where an array lies.

    Attributes:
      start, stop: bytes of its .npy file, from the beginning of the archive.
      numbers: where those of the array begin.
      checksum: CRC-32 of the .npy file.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int
    numbers: int
    stop: int
    checksum: int


class NpzFile:
    """A file whose arrays are views of its mapping.

    Attributes:
      path: the file.
      entries: its arrays by name.
    """

    def __init__(self, path: Path) -> None:
        """Map a file and check its headers.

        Raises:
          CheckpointError: if the file is truncated, compressed or not of this format.
        """
        self.path = path
        self._whole: set[str] = set()
        try:
            with path.open("rb") as file, zipfile.ZipFile(file) as archive:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
                infos = archive.infolist()
            self.entries = {info.filename.removesuffix(".npy"): self._entry(info) for info in infos}
        except (OSError, ValueError, zipfile.BadZipFile, struct.error, tokenize.TokenError, SyntaxError) as error:
            raise CheckpointError(
                f"{path}: expected an .npz of plain NumPy arrays, it is damaged or of another kind ({error}); "
                "fetch the file again"
            ) from None

    def view(self, name: str) -> np.ndarray[Any, Any]:
        """An array as a read-only view.

        Raises:
          CheckpointError: if its bytes are not those that were written.
        """
        entry = self.entries[name]
        if name not in self._whole:
            self._check_sum(name, entry)
        return np.frombuffer(self._map, entry.dtype, math.prod(entry.shape), entry.numbers).reshape(entry.shape)

    def _check_sum(self, name: str, entry: Entry) -> None:
        found = 0
        with memoryview(self._map) as data:
            for start in range(entry.start, entry.stop, _PIECE):
                found = zlib.crc32(data[start : min(start + _PIECE, entry.stop)], found)
        if found != entry.checksum:
            raise CheckpointError(f"{self.path}: tensor {name}: its bytes are damaged; fetch the file again")
        self._whole.add(name)

    def _entry(self, info: zipfile.ZipInfo) -> Entry:
        if info.compress_type != zipfile.ZIP_STORED:
            raise ValueError(f"{info.filename} is compressed: save it with numpy.savez")
        name_bytes, extra_bytes = struct.unpack_from("<HH", self._map, info.header_offset + 26)
        start = info.header_offset + _LOCAL_HEADER + name_bytes + extra_bytes
        stop = start + info.file_size
        if stop > len(self._map):
            raise ValueError(f"{info.filename} ends after byte {stop:,} of {len(self._map):,}")
        shape, dtype, header_bytes = _read_header(info.filename, self._map[start : min(stop, start + _LONGEST_HEADER)])
        if start + header_bytes + math.prod(shape) * dtype.itemsize != stop:
            raise ValueError(f"{info.filename}: {dtype} {shape} in {stop - start - header_bytes:,} bytes")
        return Entry(dtype, shape, start, start + header_bytes, stop, info.CRC)


def _read_header(name: str, data: bytes) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Shape and type of a .npy file, and the bytes before its numbers."""
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"{name}: expected version 1 or 2 of the format, found {version}")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, columns_first, dtype = read(stream)
    if dtype.hasobject or (columns_first and len(shape) > 1):
        raise ValueError(f"{name}: expected numbers row by row, found {'objects' if dtype.hasobject else 'columns'}")
    return shape, BFLOAT16 if dtype == np.dtype("V2") else dtype, stream.tell()
