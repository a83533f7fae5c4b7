"""An embedding model as sentence-transformers keeps it: modules in order, each with a folder of its own.

`modules.json` names them: the text's reader in the folder itself, then pooling, dense layers, and the norm.
`config_sentence_transformers.json` has what is written before texts, by the task.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax

from gemwright.checkpoints import hf_gemma3
from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_config import FILE_NAME
from gemwright.checkpoints.hf_tensors import WEIGHTS_FILE, match_tensors, open_tensors
from gemwright.checkpoints.placing import place
from gemwright.checkpoints.safetensors_file import SafetensorsFile
from gemwright.checkpoints.stored import kept_dtype, wanted_dtype
from gemwright.core.module import Spec, map_specs
from gemwright.models.embedding_gemma import Config, EmbeddingGemma
from gemwright.models.gemma3 import FAMILY, Gemma3

MODULES_FILE, PROMPTS_FILE = "modules.json", "config_sentence_transformers.json"
_DENSE_WEIGHT = "linear.weight"
_MEAN = ("pooling_mode", "mean"), ("pooling_mode_mean_tokens", True)  # newer files, and older ones


@dataclass(frozen=True)
class SentenceFolder:
    """What is in such a folder, but for its tokenizer.

    Attributes:
      prompts: by the task, what is written before a text.
    """

    config: Config
    weights: EmbeddingGemma
    prompts: Mapping[str, str]


def read_sentence_folder(folder: Path, dtype: Any = None) -> SentenceFolder:
    """Read an EmbeddingGemma.

    Args:
      dtype: of the weights, float32 or bfloat16; None keeps each as stored.

    Raises:
      CheckpointError: if a file is missing or damaged, or the modules are others than mean pooling, dense layers
        without bias or activation, and a norm at the end.
    """
    dense = [SafetensorsFile(folder / path / WEIGHTS_FILE) for path in _dense_paths(folder)]
    text = _text_config(folder)
    config = Config(text, tuple(file.entries[_DENSE_WEIGHT].shape[0] for file in dense))
    specs = EmbeddingGemma.specs(config)
    # Alone a reader's tensors are without the word that stands before them in a model that also writes.
    tensors = {f"model.{name.removeprefix('model.')}": tensor for name, tensor in open_tensors(folder).items()}
    stored = match_tensors(folder, text, tensors)
    wanted = wanted_dtype(dtype)

    def read(name: str, spec: Spec) -> jax.Array:
        tensor = stored[name]
        return place(tensor.read(spec.shape), wanted or kept_dtype(tensor), None, tensor.release)

    layers = tuple(_dense(file, spec, wanted) for file, spec in zip(dense, specs.dense, strict=True))
    weights = EmbeddingGemma(map_specs(read, Gemma3.specs(text)), layers)
    return SentenceFolder(config, weights, _prompts(folder))


def _text_config(folder: Path) -> Any:
    """The windows of a file that looks both ways are twice as wide as what a token sees on either side."""
    said = _read(folder / FILE_NAME, dict)
    if said.get("model_type") != FAMILY or said.get("use_bidirectional_attention") is not True:
        raise CheckpointError(
            f"{folder / FILE_NAME}: expected {FAMILY} with use_bidirectional_attention, found "
            f"{said.get('model_type')!r}; only EmbeddingGemma embeds texts"
        )
    try:
        text = hf_gemma3.read({**said, "use_bidirectional_attention": False})
    except ValueError as error:
        raise CheckpointError(f"{folder / FILE_NAME}: {error}") from None
    return replace(text, windows=tuple(None if window is None else window // 2 + 1 for window in text.windows))


def _dense_paths(folder: Path) -> list[str]:
    """The folders of the dense layers, once all modules are known to be what is computed here."""
    path = folder / MODULES_FILE
    modules = _read(path, list)
    kinds = [str(module.get("type", "")).rpartition(".")[2] if isinstance(module, dict) else "" for module in modules]
    layers = len(kinds) - 3
    if layers < 0 or kinds != ["Transformer", "Pooling", *["Dense"] * layers, "Normalize"]:
        raise CheckpointError(f"{path}: expected Transformer, Pooling, any number of Dense, Normalize, found {kinds}")
    paths = [str(module.get("path", "")) for module in modules]
    if any(Path(each).name != each for each in paths[1:]):
        raise CheckpointError(f"{path}: expected names of folders in this one, found {paths}")
    pooling = _read(folder / paths[1] / FILE_NAME, dict)
    if not any(pooling.get(key) == value for key, value in _MEAN):
        raise CheckpointError(f"{folder / paths[1] / FILE_NAME}: expected pooling by the mean of all tokens")
    return paths[2:-1]


def _dense(file: SafetensorsFile, spec: Any, wanted: Any) -> jax.Array:
    said = _read(file.path.parent / FILE_NAME, dict)
    activation = str(said.get("activation_function", "")).rpartition(".")[2]
    found = file.entries.get(_DENSE_WEIGHT)
    if activation != "Identity" or said.get("use_residual") or set(file.entries) != {_DENSE_WEIGHT}:
        raise CheckpointError(
            f"{file.path}: expected one tensor {_DENSE_WEIGHT}, and {FILE_NAME} without activation or residual, "
            f"found {sorted(file.entries)} with {activation or 'no activation_function'}"
        )
    assert found is not None
    if found.shape != spec.shape:
        raise CheckpointError(f"{file.path}: tensor {_DENSE_WEIGHT}: expected shape {spec.shape}, found {found.shape}")
    view = file.view(_DENSE_WEIGHT)
    return place(view, wanted or view.dtype, None, file.release)


def _prompts(folder: Path) -> Mapping[str, str]:
    path = folder / PROMPTS_FILE
    prompts = _read(path, dict).get("prompts", {}) if path.is_file() else {}
    if not isinstance(prompts, dict) or not all(isinstance(text, str) for text in prompts.values()):
        raise CheckpointError(f"{path}: prompts: expected a text for each task, found {prompts!r}")
    return prompts


def _read(path: Path, kind: type) -> Any:
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise CheckpointError(f"{path}: expected here of an embedding model, found no such file") from None
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(found, kind):
        raise CheckpointError(f"{path}: expected a JSON {kind.__name__}, found {type(found).__name__}")
    return found
