"""From a model to a GGUF file that llama.cpp loads. Needs the extra `gguf`."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import check_room, whole_file
from gemwright.checkpoints.gguf_config import metadata_of
from gemwright.checkpoints.gguf_names import ARCHITECTURES, KINDS, TENSOR_NAMES, gguf_library, is_norm
from gemwright.checkpoints.gguf_tokenizer import tokenizer_metadata
from gemwright.checkpoints.gguf_tower import ARCHITECTURE, FIXED_TYPES, PREFIX, is_tower_tensor, tower_metadata
from gemwright.checkpoints.host_weights import HostWeight, host_weights
from gemwright.checkpoints.load import Progress, check_vocabulary
from gemwright.checkpoints.placing import pieces
from gemwright.checkpoints.stored import FLOAT32
from gemwright.models import gemma, gemma3, gemma3_vision
from gemwright.models.family import Config, Decoder
from gemwright.text.tokenizer import Tokenizer

_LARGEST = float(np.finfo(np.float16).max)  # of a number in F16, and of the scale of a block


def save_gguf(
    path: Path,
    config: Config,
    weights: Decoder,
    tokenizer: Tokenizer | None = None,
    kind: str = "q8_0",
    *,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> None:
    """Write a model as a GGUF file, and the tower of one that sees as another. They appear whole or not at all.

    Args:
      path: made with its parents. A tower's file has `mmproj-` before this name.
      weights: float32 or bfloat16, of the shapes that `config` declares.
      kind: of the matrices: f16, q8_0 or q4_0. Norms stay float32, and matrices whose rows are no
        whole number of blocks become f16, as with llama.cpp's own converter.
      overwrite: replace files of these names.
      progress: told after each weight.

    Raises:
      CheckpointError: if the library is not installed, the weights do not fit the constants,
        llama.cpp would compute or tokenise otherwise, a weight does not fit the type, the file may
        not be replaced, or the disk has no room for it.
    """
    if kind not in KINDS:
        raise CheckpointError(f"kind: expected one of {', '.join(KINDS)}, found {kind!r}")
    if not isinstance(config, gemma.Config | gemma3.Config | gemma3_vision.Config):
        raise CheckpointError(
            f"family {config.family!r}: expected one of {', '.join(TENSOR_NAMES)}; llama.cpp computes no model of "
            "this kind, save it as a Hugging Face folder"
        )
    check_vocabulary(path, config, tokenizer)
    files = list(_files(path, config, weights, tokenizer, KINDS[kind].stored))
    check_room(path, sum(tensor.size for file in files for tensor in file.tensors))
    told = _Told(progress, sum(tensor.weight.array.size for file in files for tensor in file.tensors))
    with ExitStack() as stack:
        partials = [stack.enter_context(whole_file(file.path, overwrite=overwrite)) for file in files]
        for file, partial in zip(files, partials, strict=True):
            writer = gguf_library().GGUFWriter(partial, file.architecture)
            try:
                _add_metadata(writer, file, path.stem, KINDS[kind].file_type)
                _write(writer, file.tensors, told)
            finally:
                writer.close()


def _files(path: Path, config: Config, weights: Decoder, tokenizer: Tokenizer | None, stored: str) -> "Iterator[_File]":
    decoder = config.decoder if isinstance(config, gemma3_vision.Config) else config
    assert isinstance(decoder, gemma.Config | gemma3.Config)
    metadata = metadata_of(decoder) | tokenizer_metadata(tokenizer, decoder.vocab_size)
    arrays = host_weights(config, weights, TENSOR_NAMES)
    tensors = [_planned(name, weight, stored) for name, weight in arrays.items()]
    text = [tensor for tensor in tensors if not is_tower_tensor(tensor.name)]
    yield _File(path, ARCHITECTURES[decoder.family], "model", metadata, text)
    if isinstance(config, gemma3_vision.Config):
        tower = [tensor for tensor in tensors if is_tower_tensor(tensor.name)]
        yield _File(path.with_name(PREFIX + path.name), ARCHITECTURE, "mmproj", tower_metadata(config), tower)


def _add_metadata(writer: Any, file: "_File", name: str, file_type: int) -> None:
    writer.add_type(file.role)
    writer.add_name(name)
    writer.add_file_type(file_type)
    writer.add_quantization_version(gguf_library().GGML_QUANT_VERSION)
    add = {
        bool: writer.add_bool,
        int: writer.add_uint32,
        float: writer.add_float32,
        str: writer.add_string,
        list: writer.add_array,
    }
    for key, value in file.metadata.items():
        add[type(value)](key, value)


# ---------------------------------------------------------------------------------------- tensors


@dataclass(frozen=True)
class _Tensor:
    """A tensor to be written.

    Attributes:
      stored: the library's name of its type.
      shape: rows and columns as stored: of numbers, or of the bytes of blocks.
    """

    name: str
    weight: HostWeight
    stored: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class _File:
    """A file to be written.

    Attributes:
      role: as llama.cpp calls it: a model, or the tower and projector beside one.
    """

    path: Path
    architecture: str
    role: str
    metadata: Mapping[str, Any]
    tensors: Sequence[_Tensor]


@dataclass
class _Told:
    """How much of all files is written."""

    progress: Progress | None
    total: int
    done: int = 0

    def more(self, size: int) -> None:
        self.done += size
        if self.progress:
            self.progress(self.done, self.total)


def _planned(name: str, weight: HostWeight, wanted: str) -> _Tensor:
    gguf = gguf_library()
    wanted = FIXED_TYPES.get(name, wanted)
    if len(weight.shape) == 1 or wanted == "F32":
        return _Tensor(name, weight, "F32", FLOAT32, weight.shape)
    block, block_bytes = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[wanted]]
    rows, columns = weight.shape
    if wanted == "F16" or columns % block:
        return _Tensor(name, weight, "F16", np.dtype(np.float16), weight.shape)
    return _Tensor(name, weight, wanted, np.dtype(np.uint8), (rows, columns // block * block_bytes))


def _write(writer: Any, tensors: Sequence[_Tensor], told: _Told) -> None:
    """One at a time, so that memory holds one."""
    types = gguf_library().GGMLQuantizationType
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, tensor.dtype, tensor.size, types[tensor.stored])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for tensor in tensors:
        writer.write_tensor_data(_packed(tensor))
        told.more(tensor.weight.array.size)


def _packed(tensor: _Tensor) -> np.ndarray[Any, Any]:
    """What is stored of a weight, made from some rows at a time."""
    gguf = gguf_library()
    values = tensor.weight.values()
    if tensor.stored == "F32":
        return values.astype(FLOAT32) + 1 if is_norm(tensor.name) else values.astype(FLOAT32)
    packed = np.empty(tensor.shape, tensor.dtype)
    for piece in pieces(values):
        rows = values[piece].astype(FLOAT32)
        largest = float(np.abs(rows).max())
        if not largest <= _LARGEST:  # nor if it is no number
            raise CheckpointError(
                f"tensor {tensor.name}: expected numbers up to {_LARGEST:,.0f} for {tensor.stored}, found {largest}"
            )
        packed[piece] = gguf.quantize(rows, gguf.GGMLQuantizationType[tensor.stored])
    return packed
