"""A GGUF file of llama.cpp: its metadata, its tensors, and which of our weights each one is.

Files are mapped. Blocks of a quantised type become numbers when their weight is read, by the library
of the extra `gguf`; files without such blocks need no library.
"""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import lone_file
from gemwright.checkpoints.gguf_config import Config, architecture_of, config_of
from gemwright.checkpoints.gguf_header import TensorEntry, read_header
from gemwright.checkpoints.gguf_names import DTYPES, EMBEDDING, TENSOR_NAMES, gguf_library, in_blocks, is_norm
from gemwright.checkpoints.hf_tensors import stored_shape
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.checkpoints.placing import aligned, pieces
from gemwright.checkpoints.stored import FLOAT32
from gemwright.core.module import Spec, named_leaves
from gemwright.core.names import translate
from gemwright.models.family import specs_of

SUFFIX = ".gguf"


@dataclass(frozen=True)
class GgufTensor:
    """A stored tensor: one of our weights with heads joined, plus one if it is a norm.

    Attributes:
      kind: the format's name of its type.
      shape: rows and columns, in numbers.
      data: the bytes of each row.
    """

    path: Path
    name: str
    kind: str
    shape: tuple[int, ...]
    data: np.ndarray[Any, Any]

    @property
    def dtype(self) -> np.dtype[Any]:
        return FLOAT32 if is_norm(self.name) else DTYPES[self.kind]

    def read(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A view of the file, or for blocks and norms a copy."""
        rows = self.data[: math.prod(shape) // self.shape[-1]]  # what follows is padding
        values = _numbers(rows, self.kind)
        return (values.astype(FLOAT32) - 1 if is_norm(self.name) else values).reshape(shape)

    def release(self, view: np.ndarray[Any, Any]) -> None:
        """Nothing: the system takes mapped pages back when it needs them."""

    def __str__(self) -> str:
        return f"{self.path}: tensor {self.name}"


def _numbers(rows: np.ndarray[Any, Any], kind: str) -> np.ndarray[Any, Any]:
    """(rows, columns) of what is stored. Blocks are opened in memory that JAX takes as it is, some rows at a time."""
    if not in_blocks(kind):
        return rows.view(DTYPES[kind])
    gguf = gguf_library()
    stored = gguf.GGMLQuantizationType[kind]
    values = aligned(gguf.quant_shape_from_byte_shape(rows.shape, stored), FLOAT32)
    for piece in pieces(rows):
        values[piece] = gguf.dequantize(rows[piece], stored)
    return values


# --------------------------------------------------------------------------------------- the file


@dataclass(frozen=True)
class GgufFile:
    """A mapped file.

    Attributes:
      metadata: by key.
      tensors: by llama.cpp's name.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one in a folder without a `config.json`; None if none.

    Raises:
      CheckpointError: if the folder has several.
    """
    return lone_file(path, SUFFIX)


def open_gguf(path: Path) -> GgufFile:
    """Map a file; reads its header alone.

    Raises:
      CheckpointError: if the file is truncated, one of several parts, or not of this format.
      OSError: if it cannot be read.
    """
    data = _mapped(path)
    try:
        metadata, entries = read_header(data)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}; fetch the file again") from None
    parts = metadata.get("split.count")
    if isinstance(parts, int) and parts > 1:
        raise CheckpointError(
            f"{path}: expected a whole model, found a part of {parts}; join them by llama-gguf-split --merge"
        )
    tensors = {name: _tensor(path, name, entry, data) for name, entry in entries.items()}
    return GgufFile(path, metadata, tensors)


def _mapped(path: Path) -> memoryview:
    """The bytes of a file. They are read when they are used, and live as long as a view of them."""
    with path.open("rb") as file:
        if path.stat().st_size == 0:
            return memoryview(b"")  # which cannot be mapped
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def _tensor(path: Path, name: str, entry: TensorEntry, data: memoryview) -> GgufTensor:
    stored = np.frombuffer(data[entry.start : entry.stop], np.uint8)
    rows = math.prod(entry.shape[:-1])
    return GgufTensor(path, name, entry.kind, entry.shape, stored.reshape(rows, len(stored) // max(1, rows)))


# -------------------------------------------------------------------------------------- the match


def match_gguf(file: GgufFile) -> tuple[Config, dict[str, GgufTensor]]:
    """The model's constants, and for each of our weights the tensor that it is.

    Raises:
      CheckpointError: if it is no Gemma 1, 2 or 3, or a tensor is missing, has another shape or type,
        or is none of this model's.
    """
    config = gguf_config(file)
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    names = translate(specs, TENSOR_NAMES[config.family])
    for ours, theirs in names.items():
        _check_tensor(file, theirs, stored_shape(specs[ours]))
    for name in sorted(file.tensors.keys() - set(names.values())):
        tensor = file.tensors[name]
        raise CheckpointError(f"{tensor}: expected no tensor of this name, found one of shape {tensor.shape}")
    return config, {ours: file.tensors[theirs] for ours, theirs in names.items()}


def gguf_config(file: GgufFile) -> Config:
    """The model's constants.

    Raises:
      CheckpointError: if it is no Gemma 1, 2 or 3 that is computed; names the key.
    """
    try:
        architecture_of(file.metadata)  # before the embedding is missed in a file that is something else
        if EMBEDDING not in file.tensors:
            raise ValueError(f"tensor {EMBEDDING}: expected it in a Gemma, found none")
        config = config_of(file.metadata, file.tensors[EMBEDDING].shape[0])
        if config.num_layers > len(file.tensors):  # or millions of layers would be declared before one is missed
            raise ValueError(
                f"block_count: expected no more layers than the {len(file.tensors)} tensors, found {config.num_layers}"
            )
        return config
    except ValueError as error:
        raise CheckpointError(f"{file.path}: {error}") from None


def _check_tensor(file: GgufFile, name: str, shape: tuple[int, ...]) -> None:
    if name not in file.tensors:
        raise CheckpointError(f"{file.path}: tensor {name}: expected one of shape {shape}, found none")
    tensor = file.tensors[name]
    found = (vocabulary(tensor.shape[0]), *tensor.shape[1:]) if name == EMBEDDING else tensor.shape
    if found != shape:
        raise CheckpointError(f"{tensor}: expected shape {shape}, found {tensor.shape}")
    if tensor.kind not in DTYPES:
        raise CheckpointError(
            f"{tensor}: expected one of the types {', '.join(DTYPES)}, found {tensor.kind}; "
            "make a file of such a type by llama-quantize"
        )
    if in_blocks(tensor.kind):
        gguf_library()  # missed now rather than at the first weight
