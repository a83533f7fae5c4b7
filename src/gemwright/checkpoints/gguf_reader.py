"""A GGUF file of llama.cpp: its metadata, its tensors, and which of our weights each one is.

Files are mapped. Blocks of a quantised type become numbers when their weight is read, by the library
of the extra `gguf`; files without such blocks need no library.
"""

import math
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import lone_file
from gemwright.checkpoints.gguf_config import Config, architecture_of, config_of
from gemwright.checkpoints.gguf_header import TensorEntry, read_header
from gemwright.checkpoints.gguf_names import DTYPES, EMBEDDING, TENSOR_NAMES, gguf_library, in_blocks, is_norm
from gemwright.checkpoints.gguf_tower import PREFIX, is_tower_tensor, named_rightly, tower_config, tower_of
from gemwright.checkpoints.hf_tensors import stored_shape
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.checkpoints.placing import aligned, pieces
from gemwright.checkpoints.stored import FLOAT32
from gemwright.core.module import Spec, named_leaves
from gemwright.core.names import translate
from gemwright.models import gemma3_vision
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
      tower: the file beside it by which a Gemma 3 sees.
    """

    path: Path
    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]
    tower: "GgufFile | None" = None

    def part_of(self, name: str) -> "GgufFile":
        """The file in which a tensor of this name stands."""
        return self.tower if self.tower and is_tower_tensor(name) else self


def gguf_file(path: Path) -> Path | None:
    """The GGUF file that a path means: itself, or the only one in a folder without a `config.json`; None if none.

    Raises:
      CheckpointError: if the folder has several, besides those of towers.
    """
    return lone_file(path, SUFFIX, "" if path.is_file() else f"{PREFIX}*")


def open_gguf(path: Path) -> GgufFile:
    """Map a file, and that of a tower beside it; reads their headers alone.

    Raises:
      CheckpointError: if the file is truncated, one of several parts, or not of this format.
      OSError: if it cannot be read.
    """
    tower, file = tower_of(path), _opened(path)
    return file if tower is None else replace(file, tower=_opened(tower))


def _opened(path: Path) -> GgufFile:
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
    return GgufFile(path, metadata, named_rightly(tensors, metadata.get("clip.vision.embedding_length")))


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


def match_gguf(file: GgufFile) -> tuple[Config | gemma3_vision.Config, dict[str, GgufTensor]]:
    """The model's constants, and for each of our weights the tensor that it is.

    Raises:
      CheckpointError: if it is no Gemma 1, 2 or 3, or a tensor is missing, has another shape or type,
        or is none of this model's.
    """
    config = gguf_config(file)
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    names = translate(specs, TENSOR_NAMES[config.family])
    for ours, theirs in names.items():
        _check_tensor(file.part_of(theirs), theirs, stored_shape(specs[ours]))
    held = {**file.tensors, **(file.tower.tensors if file.tower else {})}
    for name in sorted(held.keys() - set(names.values())):
        raise CheckpointError(f"{held[name]}: expected no tensor of this name, found one of shape {held[name].shape}")
    return config, {ours: held[theirs] for ours, theirs in names.items()}


def gguf_config(file: GgufFile) -> Config | gemma3_vision.Config:
    """The model's constants.

    Raises:
      CheckpointError: if it is no Gemma 1, 2 or 3 that is computed; names the key.
    """
    try:
        architecture_of(file.metadata)  # before the embedding is missed in a file that is something else
        if EMBEDDING not in file.tensors:
            raise ValueError(f"tensor {EMBEDDING}: expected it in a Gemma, found none")
        config = config_of(file.metadata, file.tensors[EMBEDDING].shape[0])
        _check_layers(config.num_layers, file)
    except ValueError as error:
        raise CheckpointError(f"{file.path}: {error}") from None
    return config if file.tower is None else _seeing(file.tower, config)


def _seeing(tower: GgufFile, decoder: Config) -> gemma3_vision.Config:
    try:
        config = tower_config(tower.metadata, decoder)
        _check_layers(config.vision.num_layers, tower)
        return config
    except ValueError as error:
        raise CheckpointError(
            f"{tower.path}: {error}; move it elsewhere to read the model beside it as one of text alone"
        ) from None


def _check_layers(layers: int, file: GgufFile) -> None:
    if layers > len(file.tensors):  # or millions of layers would be declared before one is missed
        raise ValueError(f"block_count: expected no more layers than the {len(file.tensors)} tensors, found {layers}")


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
