"""Files of NumPy's arrays, read without trust: an array of objects could hold code, and is refused."""

import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np

Array = np.ndarray[Any, Any]

_HEADER = 128  # bytes of an `.npy` file before its numbers


def read_array(stream: IO[bytes]) -> Array:
    """What an `.npy` file holds.

    Raises:
      ValueError: if it is no such file, or holds objects.
    """
    return np.lib.format.read_array(stream, allow_pickle=False)


def map_array(path: Path) -> Array:
    """The array of an `.npy` file, read from the disk as it is used; raises as `read_array` does."""
    if path.stat().st_size <= _HEADER:  # nothing cannot be mapped
        with path.open("rb") as stream:
            return read_array(stream)
    return np.lib.format.open_memmap(path, mode="r")


def read_arrays(path: Path | str) -> dict[str, Array]:
    """The arrays of an `.npz` file by name.

    Raises:
      OSError: if there is no such file.
      ValueError: if it is no such file, or an array holds objects.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return {name.removesuffix(".npy"): _member(archive, name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise ValueError(f"{path}: expected an .npz file: {error}") from None


def _member(archive: zipfile.ZipFile, name: str) -> Array:
    with archive.open(name) as stream:
        return read_array(stream)
