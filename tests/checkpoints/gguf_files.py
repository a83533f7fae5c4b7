"""GGUF files for tests: models that llama.cpp could compute, and files changed by its own library."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
from sentencepiece import sentencepiece_model_pb2

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.load import load_checkpoint
from gemwright.text.tokenizer import Tokenizer
from tests.checkpoints.conftest import CONFIGS, GEMMA3

GGUF_CONFIGS = {
    "gemma": CONFIGS["gemma"],
    "gemma2": replace(CONFIGS["gemma2"], query_scale=16**-0.5),  # what llama.cpp computes for heads of 16
    "gemma3": replace(GEMMA3, query_scale=16**-0.5, num_layers=7, windows=(8, 8, 8, 8, 8, None)),
}
K_TYPES = gguf.GGMLQuantizationType

Tensors = dict[str, tuple[np.ndarray[Any, Any], Any]]


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path)
    message = str(caught.value)
    assert "\n" not in message
    return message


def rewrite(path: Path, change: Callable[[dict[str, Any], Tensors], Any]) -> None:
    """Write a file again by the library itself, its metadata and (data, type) by name changed."""
    reader = gguf.GGUFReader(path)
    metadata = {key: (field.contents(), field.types) for key, field in reader.fields.items()}
    tensors: Tensors = {t.name: (np.array(t.data), t.tensor_type) for t in reader.tensors}
    values = {key: value for key, (value, _) in metadata.items() if not key.startswith("GGUF.")}
    change(values, tensors)
    writer = gguf.GGUFWriter(path.with_suffix(".new"), values.pop("general.architecture"))
    for key, value in values.items():
        kind = metadata[key][1] if key in metadata else [gguf.GGUFValueType.get_type(value)]
        writer.add_key_value(key, value, kind[0], kind[-1] if len(kind) > 1 else None)
    for name, (data, kind) in tensors.items():
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.with_suffix(".new").replace(path)


def model_of(tokenizer: Tokenizer) -> Any:
    """A tokenizer's SentencePiece model, to be changed."""
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(tokenizer.to_bytes())
    return proto
