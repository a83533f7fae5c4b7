"""From a model to a Hugging Face folder that transformers, vLLM and this library load."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.folders import check_room, whole_folder
from gemwright.checkpoints.hf_config import FILE_NAME, TokenIds, config_json, generation_json
from gemwright.checkpoints.hf_tensors import INDEX_FILE, WEIGHTS_FILE
from gemwright.checkpoints.host_weights import HostWeight, host_weights
from gemwright.checkpoints.load import Progress
from gemwright.checkpoints.safetensors_writer import Declared, write_tensors
from gemwright.checkpoints.tokenizer_files import write_tokenizer
from gemwright.models.family import FAMILIES, Config, Decoder, stop_ids
from gemwright.text import control
from gemwright.text.tokenizer import Tokenizer

_GENERATION_FILE = "generation_config.json"
_SHARD_BYTES = 5_000_000_000


def save_checkpoint(
    folder: Path,
    config: Config,
    weights: Decoder,
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
    arrays = host_weights(config, weights, {name: one.names for name, one in FAMILIES.items()})
    ids = token_ids(config, tokenizer)
    stored_config = config_json(config, str(weights.embedding.dtype), ids)
    check_room(folder, sum(weight.array.nbytes for weight in arrays.values()))
    with whole_folder(folder, overwrite=overwrite) as partial:
        write_beside_weights(partial, stored_config, ids, tokenizer, source)
        write_weights(partial, arrays, shard_bytes, progress)


def token_ids(config: Config, tokenizer: Tokenizer | None) -> TokenIds:
    """The tokenizer's, or those of Gemma's vocabulary."""
    if tokenizer is not None:
        others = sorted(tokenizer.stop_ids - {tokenizer.eos_id})
        return TokenIds(tokenizer.pad_id, tokenizer.bos_id, (tokenizer.eos_id, *others))
    return TokenIds(control.PAD, control.BOS, stop_ids(config))


# ---------------------------------------------------------------------------------------- weights


def write_weights(
    folder: Path,
    weights: Mapping[str, HostWeight],
    shard_bytes: int = _SHARD_BYTES,
    progress: Progress | None = None,
) -> None:
    """The files of weights, by their names there, and the index of several."""
    shards = list(_shards(weights, shard_bytes))
    done, total = 0, sum(weight.array.size for weight in weights.values())
    files: dict[str, str] = {}
    for number, names in enumerate(shards, 1):
        file = WEIGHTS_FILE if len(shards) == 1 else f"model-{number:05}-of-{len(shards):05}.safetensors"
        files |= dict.fromkeys(names, file)
        declared = [Declared(name, weights[name].array.dtype, weights[name].shape) for name in names]
        for name in write_tensors(folder / file, declared, lambda name: weights[name].values()):
            done += weights[name].array.size
            if progress:
                progress(done, total)
    if len(shards) > 1:
        size = sum(weight.array.nbytes for weight in weights.values())
        metadata = {"total_size": size, "total_parameters": total}
        _write_json(folder / INDEX_FILE, {"metadata": metadata, "weight_map": files})


def _shards(weights: Mapping[str, HostWeight], limit: int) -> Iterator[list[str]]:
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


def write_beside_weights(
    folder: Path, stored_config: Mapping[str, Any], ids: TokenIds, tokenizer: Tokenizer | None, source: Path | None
) -> None:
    """All files of a Hugging Face folder but the weights."""
    _write_json(folder / FILE_NAME, stored_config)
    _write_json(folder / _GENERATION_FILE, {**_generation_of(source), **generation_json(ids)})
    write_tokenizer(folder, tokenizer, source)


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
