"""From a model to a Hugging Face folder that transformers, vLLM and this library load."""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import whole_folder
from gemwright.checkpoints.hf_config import FILE_NAME, TokenIds, config_json, generation_json
from gemwright.checkpoints.hf_tensors import INDEX_FILE, WEIGHTS_FILE, stored_shape
from gemwright.checkpoints.load import Progress
from gemwright.checkpoints.safetensors_writer import Declared, write_tensors
from gemwright.checkpoints.stored import BFLOAT16, FLOAT32
from gemwright.checkpoints.tokenizer_files import write_tokenizer
from gemwright.core.module import Spec, named_leaves
from gemwright.core.names import translate
from gemwright.models.gemma import HUGGING_FACE_NAMES, Config, Gemma
from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer

_GENERATION_FILE = "generation_config.json"
_SHARD_BYTES = 5_000_000_000


def save_checkpoint(
    folder: Path,
    config: Config,
    weights: Gemma,
    tokenizer: Tokenizer | None = None,
    *,
    source: Path | None = None,
    overwrite: bool = False,
    shard_bytes: int = _SHARD_BYTES,
    progress: Progress | None = None,
) -> None:
    """Write a model as a Hugging Face folder. It appears whole or not at all.

    Args:
      folder: made with its parents.
      weights: float32 or bfloat16, of the shapes that `config` declares.
      tokenizer: its file is written beside the weights.
      source: a Hugging Face folder whose tokenizer files (a chat template among them) are copied,
        and whose settings of generation are kept.
      overwrite: replace the checkpoint that the folder holds.
      shard_bytes: the largest file of weights; one tensor is never cut.
      progress: told after each weight.

    Raises:
      CheckpointError: if the weights do not fit the constants, the folder may not be replaced, or
        the disk has no room for it.
    """
    arrays = _by_stored_name(config, weights)
    ids = token_ids(config, tokenizer)
    stored_config = config_json(config, str(arrays["model.embed_tokens.weight"].array.dtype), ids)
    _check_room(folder, sum(weight.array.nbytes for weight in arrays.values()))
    with whole_folder(folder, overwrite=overwrite) as partial:
        _write_json(partial / FILE_NAME, stored_config)
        _write_json(partial / _GENERATION_FILE, {**_generation_of(source), **generation_json(ids)})
        write_tokenizer(partial, tokenizer, source)
        _write_weights(partial, arrays, shard_bytes, progress)


def token_ids(config: Config, tokenizer: Tokenizer | None) -> TokenIds:
    """The tokenizer's, or those of Gemma's vocabulary."""
    if tokenizer is not None:
        others = sorted(tokenizer.stop_ids - {tokenizer.eos_id})
        return TokenIds(tokenizer.pad_id, tokenizer.bos_id, (tokenizer.eos_id, *others))
    stops = tuple(stop for stop in (control.EOS, control.END_OF_TURN_ID) if stop < config.vocab_size)
    return TokenIds(control.PAD, control.BOS, stops)


# ---------------------------------------------------------------------------------------- weights


@dataclass(frozen=True)
class _Weight:
    """A weight of ours, and its shape in the file."""

    array: jax.Array
    shape: tuple[int, ...]

    def bytes(self) -> np.ndarray[Any, Any]:
        """The values on the host; on a CPU no copy."""
        # a new array on the CPU: reading the values of another device would keep a copy beside them
        here = jax.device_put(self.array, jax.local_devices(backend="cpu")[0])
        return np.asarray(here).reshape(self.shape)


def _by_stored_name(config: Config, weights: Gemma) -> dict[str, _Weight]:
    if config.family not in HUGGING_FACE_NAMES:
        raise CheckpointError(f"family {config.family!r}: expected one of {', '.join(HUGGING_FACE_NAMES)}")
    specs: dict[str, Spec] = named_leaves(Gemma.specs(config))
    arrays = named_leaves(weights)
    for name in sorted(specs.keys() ^ arrays.keys()):
        raise CheckpointError(f"weight {name}: expected {'none' if name in arrays else 'one'} by the configuration")
    for name, spec in specs.items():
        _check_weight(name, spec, arrays[name])
    names = translate(specs, HUGGING_FACE_NAMES[config.family])
    return {names[name]: _Weight(arrays[name], stored_shape(spec)) for name, spec in specs.items()}


def _check_weight(name: str, spec: Spec, array: jax.Array) -> None:
    if array.shape != spec.shape:
        raise CheckpointError(f"weight {name}: expected shape {spec.shape}, found {array.shape}")
    if array.dtype not in (BFLOAT16, FLOAT32):
        raise CheckpointError(f"weight {name}: expected bfloat16 or float32, found {array.dtype}; convert it first")


def _write_weights(folder: Path, weights: Mapping[str, _Weight], shard_bytes: int, progress: Progress | None) -> None:
    shards = list(_shards(weights, shard_bytes))
    done, total = 0, sum(weight.array.size for weight in weights.values())
    files: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = WEIGHTS_FILE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        files |= dict.fromkeys(names, file)
        declared = [Declared(name, weights[name].array.dtype, weights[name].shape) for name in names]
        for name in write_tensors(folder / file, declared, lambda name: weights[name].bytes()):
            done += weights[name].array.size
            if progress:
                progress(done, total)
    if len(shards) > 1:
        size = sum(weight.array.nbytes for weight in weights.values())
        metadata = {"total_size": size, "total_parameters": total}
        _write_json(folder / INDEX_FILE, {"metadata": metadata, "weight_map": files})


def _shards(weights: Mapping[str, _Weight], limit: int) -> Iterator[list[str]]:
    names: list[str] = []
    size = 0
    for name, weight in weights.items():
        if names and size + weight.array.nbytes > limit:
            yield names
            names, size = [], 0
        names.append(name)
        size += weight.array.nbytes
    yield names


# -------------------------------------------------------------------------------------- other files


def _check_room(folder: Path, needed: int) -> None:
    existing = next(parent for parent in folder.resolve().parents if parent.exists())
    free = shutil.disk_usage(existing).free
    if free < needed:
        raise CheckpointError(f"{folder}: expected {needed / 1e9:.1f} GB of free space, found {free / 1e9:.1f} GB")


def _generation_of(source: Path | None) -> dict[str, Any]:
    """Settings such as the temperature that a model's authors advise."""
    path = None if source is None else source / _GENERATION_FILE
    if path is None or not path.is_file():
        return {}
    try:
        return dict(json.loads(path.read_bytes()))
    except (ValueError, TypeError):
        raise CheckpointError(f"{path}: expected a JSON object; correct or remove the file") from None


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
