"""From a view of a file to an array of JAX, with as few copies as the machine allows.

On the CPU JAX takes memory that begins at a multiple of 64 bytes as it is; other memory, and other
types, are copied into such memory piece by piece, and the pages of the source given back on the way.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

ALIGNMENT = 64  # bytes; jaxlib copies what begins elsewhere
_PIECE = 1 << 22  # bytes of source in memory while copying

Release = Callable[[np.ndarray[Any, Any]], None]


def place(
    view: np.ndarray[Any, Any], dtype: np.dtype[Any], sharding: jax.sharding.Sharding | None, release: Release
) -> jax.Array:
    """An array with the values of a view.

    Args:
      view: of a mapped file.
      dtype: of the array.
      sharding: over which devices; each then reads its own part. None: the default device.
      release: called on parts of the view that are not needed any more.
    """
    if sharding is None:
        array = jax.device_put(_host(view, dtype, release))
    else:
        array = jax.make_array_from_callback(view.shape, sharding, lambda part: _host(view[part], dtype, release))
    if next(iter(array.devices())).platform != "cpu":
        array.block_until_ready()  # the copy to the device reads the view
        release(view)
    return array


def aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    """Memory that JAX takes without a copy; its values are undefined."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    return memory[start : start + size].view(dtype).reshape(shape)


def _host(view: np.ndarray[Any, Any], dtype: np.dtype[Any], release: Release) -> np.ndarray[Any, Any]:
    """The view itself where JAX can take it, else a copy."""
    if view.dtype == dtype and view.flags.c_contiguous and view.ctypes.data % ALIGNMENT == 0:
        return view
    copy = aligned(view.shape, dtype)
    for rows in pieces(view):
        np.copyto(copy[rows], view[rows], casting="unsafe")
        release(view[rows])
    return copy


def pieces(view: np.ndarray[Any, Any]) -> Iterator[slice]:
    """Slices of rows, each small beside a weight."""
    rows = max(1, _PIECE * len(view) // max(1, view.nbytes))
    return (slice(start, start + rows) for start in range(0, len(view), rows))
