"""The tensors of a Hugging Face folder, and which of our weights each one is."""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_siglip import newest_name
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.checkpoints.safetensors_file import SafetensorsFile
from gemwright.core.module import Spec, named_leaves
from gemwright.core.names import translate
from gemwright.models.family import FAMILIES, Config, specs_of

WEIGHTS_FILE = "model.safetensors"
INDEX_FILE = WEIGHTS_FILE + ".index.json"

_EMBEDDING = "model.embed_tokens.weight"  # or what ends so, of a decoder within another model
_HEAD = "lm_head.weight"  # some files repeat the embedding under this name
_COMPUTED = ".rotary_emb.inv_freq"  # old files keep these angles, which follow from the constants

_SHOWN = 3  # mismatches in one message


@dataclass(frozen=True)
class Tensor:
    """A stored tensor: one of our weights with heads joined, and padding rows after the last if it is the embedding."""

    file: SafetensorsFile
    name: str

    @property
    def shape(self) -> tuple[int, ...]:
        return self.file.entries[self.name].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.file.entries[self.name].dtype

    def read(self, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
        """A view of the file."""
        return self.file.view(self.name).reshape(-1)[: math.prod(shape)].reshape(shape)

    def release(self, view: np.ndarray[Any, Any]) -> None:
        self.file.release(view)

    def __str__(self) -> str:
        return f"{self.file.path}: tensor {self.name}"


# -------------------------------------------------------------------------------------- the files


def open_tensors(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder by name; reads headers only.

    Raises:
      CheckpointError: if a file is missing, damaged, or not as the index says.
    """
    single, index = folder / WEIGHTS_FILE, folder / INDEX_FILE
    if single.is_file():
        return _tensors(SafetensorsFile(single))
    if not index.is_file():
        raise CheckpointError(_nothing_found(folder))
    files = _read_index(index)
    shards = {name: SafetensorsFile(_shard(index, name)) for name in sorted(set(files.values()))}
    tensors = {name: tensor for shard in shards.values() for name, tensor in _tensors(shard).items()}
    for name, file in files.items():
        if name not in tensors or tensors[name].file is not shards[file]:
            raise CheckpointError(f"{folder / file}: tensor {name}: expected here by {INDEX_FILE}, found none")
    return tensors


def _tensors(file: SafetensorsFile) -> dict[str, Tensor]:
    return {name: Tensor(file, name) for name in file.entries}


def _read_index(path: Path) -> dict[str, str]:
    try:
        files = json.loads(path.read_bytes())["weight_map"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(f"{path}: expected JSON with a weight_map, found {error!r}") from None
    if not isinstance(files, dict) or not all(isinstance(file, str) for file in files.values()):
        raise CheckpointError(f"{path}: weight_map: expected a file name for each tensor")
    return files


def _shard(index: Path, name: str) -> Path:
    """A shard beside its index: a name that leads elsewhere is refused."""
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise CheckpointError(f"{index}: expected names of safetensors files in this folder, found {name!r}")
    if not (index.parent / name).is_file():
        raise CheckpointError(f"{index.parent / name}: expected by {INDEX_FILE}, found no such file; fetch it again")
    return index.parent / name


def _nothing_found(folder: Path) -> str:
    expected = f"{folder}: expected {WEIGHTS_FILE} or {INDEX_FILE}, found neither"
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth", ".ckpt"))
    if pickles:
        return f"{expected} but {pickles[0]}: pickled weights can run code and are never read; save as safetensors"
    return expected


# --------------------------------------------------------------------------------------- the match


def match_tensors(folder: Path, config: Config, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """For each of our weights, the tensor that it is.

    Raises:
      CheckpointError: if a tensor is missing, has another shape, or is none of this model's.
    """
    tensors = {newest_name(name): tensor for name, tensor in tensors.items()}
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    names = translate(specs, FAMILIES[config.family].names)
    expected = {names[ours]: stored_shape(spec) for ours, spec in specs.items()}
    problems = list(_problems(folder, expected, tensors))
    if problems:
        more = f"; and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        raise CheckpointError("; ".join(problems[:_SHOWN]) + more)
    return {ours: tensors[theirs] for ours, theirs in names.items()}


def stored_shape(spec: Spec) -> tuple[int, ...]:
    """The shape in a file: a matrix (out, in) has its heads joined, all else is as it is."""
    if not spec.is_matrix:
        return spec.shape
    outs = len(spec.shape) - spec.inputs
    return math.prod(spec.shape[:outs]), math.prod(spec.shape[outs:])


def _problems(folder: Path, expected: Mapping[str, tuple[int, ...]], tensors: Mapping[str, Tensor]) -> Iterator[str]:
    for name, shape in expected.items():
        if name not in tensors:
            yield f"{folder}: tensor {name}: expected one of shape {shape}, found none"
        elif _unpadded(name, tensors[name].shape) != shape:
            yield f"{tensors[name]}: expected shape {shape}, found {tensors[name].shape}"
    for name, tensor in tensors.items():
        if name not in expected and not name.endswith(_COMPUTED) and not _is_tied_head(name, tensors):
            yield f"{tensor}: expected no tensor of this name, found one of shape {tensor.shape}"


def _unpadded(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    return (vocabulary(shape[0]), *shape[1:]) if name.endswith(_EMBEDDING) and shape else shape


def _is_tied_head(name: str, tensors: Mapping[str, Tensor]) -> bool:
    embeddings = [tensor.shape for each, tensor in tensors.items() if each.endswith(_EMBEDDING)]
    return name == _HEAD and tensors[name].shape in embeddings
