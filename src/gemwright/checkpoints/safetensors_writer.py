"""Write a safetensors file tensor by tensor, each where a mapping can use it as it is.

The library's own writer takes all tensors at once and begins them at multiples of 8 bytes; JAX
wants multiples of 64 to take memory without a copy.
"""

import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.placing import ALIGNMENT
from gemwright.checkpoints.safetensors_file import DTYPES

FOR_TRANSFORMERS = {"format": "pt"}  # it refuses a file without

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@dataclass(frozen=True)
class Declared:
    """A tensor to be written."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_tensors(
    path: Path,
    tensors: Iterable[Declared],
    values: Callable[[str], np.ndarray[Any, Any]],
    metadata: Mapping[str, str] = FOR_TRANSFORMERS,
) -> Iterator[str]:
    """Write a file, yielding each tensor's name once it is written.

    Args:
      values: gives a tensor by name; asked for one at a time.
      metadata: what the header says of the file.
    """
    in_order = sorted(tensors, key=lambda tensor: tensor.size % ALIGNMENT != 0)  # an odd size would shift the next
    with path.open("wb") as file:
        file.write(_header(in_order, metadata))
        for tensor in in_order:
            data = np.ascontiguousarray(values(tensor.name))
            file.write(data.reshape(-1).view(np.uint8).data)
            yield tensor.name


def _header(tensors: Sequence[Declared], metadata: Mapping[str, str]) -> bytes:
    """Length and JSON, filled with spaces so that the first tensor begins at a multiple of the alignment."""
    fields: dict[str, Any] = {"__metadata__": dict(metadata)}
    start = 0
    for tensor in tensors:
        offsets = [start, start + tensor.size]
        fields[tensor.name] = {"dtype": _NAMES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": offsets}
        start += tensor.size
    text = json.dumps(fields, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text
