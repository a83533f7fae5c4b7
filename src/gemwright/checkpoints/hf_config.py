"""A model's constants as `config.json` of Hugging Face, read in all its dialects and written in the common one.

Files written by transformers 5 have `dtype`, `rope_parameters` and `layer_types`; older ones
`torch_dtype`, `rope_theta` and `sliding_window_pattern`. What is written has both, so that old and
new readers agree.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemwright.checkpoints import hf_gemma, hf_gemma3, hf_gemma3_vision, hf_griffin, hf_paligemma
from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_values import TANH_GELU
from gemwright.models.family import Config

FILE_NAME = "config.json"

PACKED = {"quant_method": "gemwright"}
"""`quantization_config` of a folder whose weights are packed, see `packed_reader.py`."""

_UNPACKED = "quantised Hugging Face files are not read; use the unquantised model"


@dataclass(frozen=True)
class _Dialect:
    """How a family's files say its constants.

    Attributes:
      architecture: the class of transformers.
      read: from what a file says; raises ValueError.
      write: what a file says of this family alone; raises CheckpointError.
    """

    architecture: str
    read: Callable[[Mapping[str, Any]], Config]
    write: Callable[[Any], dict[str, Any]]


_DIALECTS: dict[str, _Dialect] = {
    family: _Dialect(architecture, dialect.read, dialect.write)
    for dialect in (hf_gemma, hf_gemma3, hf_gemma3_vision, hf_griffin, hf_paligemma)
    for family, architecture in dialect.ARCHITECTURES.items()
}

# ------------------------------------------------------------------------------------------ read


def read_config(folder: Path) -> Config:
    """The constants of the model in a folder.

    Raises:
      CheckpointError: if there is no `config.json`, or its model is not of these families or
        computes something else; names the key, what was expected and found.
    """
    path = folder / FILE_NAME
    if not path.is_file():
        raise CheckpointError(f"{folder}: expected the folder of a model, found no {FILE_NAME} in it")
    try:
        return _from_json(_read_json(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from None


def is_packed(folder: Path) -> bool:
    """Whether a folder says that its weights are packed; false too if it says nothing readable."""
    try:
        return _read_json(folder / FILE_NAME).get("quantization_config") == PACKED
    except (ValueError, OSError):
        return False


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not valid JSON: {error}") from None
    if not isinstance(values, dict):
        raise ValueError("expected a JSON object")
    return values


def _from_json(stored: Mapping[str, Any]) -> Config:
    family = stored.get("model_type")
    if not isinstance(family, str) or family not in _DIALECTS:
        known = " or ".join(sorted(_DIALECTS))
        raise ValueError(f"model_type: expected {known}, found {family!r}; this architecture is not supported")
    if stored.get("quantization_config") not in (None, PACKED):
        raise ValueError(f"quantization_config: expected none, found {stored['quantization_config']!r}: {_UNPACKED}")
    return _DIALECTS[family].read(stored)


# ----------------------------------------------------------------------------------------- write


@dataclass(frozen=True)
class TokenIds:
    """The ids that Hugging Face files carry beside a model.

    Attributes:
      stops: ids that end an answer, EOS first.
    """

    pad: int
    bos: int
    stops: tuple[int, ...]


def config_json(config: Config, dtype: str, ids: TokenIds) -> dict[str, Any]:
    """What `config.json` says of a model, for old and new readers.

    Args:
      dtype: of the stored weights, as `bfloat16`.

    Raises:
      CheckpointError: if the family's files cannot say what this configuration computes.
    """
    if config.family not in _DIALECTS:
        raise CheckpointError(f"family {config.family!r}: expected one of {', '.join(_DIALECTS)}")
    dialect = _DIALECTS[config.family]
    return {
        "architectures": [dialect.architecture],
        "model_type": config.family,
        "hidden_activation": TANH_GELU,
        "attention_bias": False,
        "attention_dropout": 0.0,
        "tie_word_embeddings": True,
        "initializer_range": 0.02,
        "use_cache": True,
        "pad_token_id": ids.pad,
        "bos_token_id": ids.bos,
        "eos_token_id": ids.stops[0],
        "torch_dtype": dtype,
        "dtype": dtype,
        **dialect.write(config),
    }


def generation_json(ids: TokenIds) -> dict[str, Any]:
    """What `generation_config.json` says: an answer ends at the end of a turn too, not at EOS alone."""
    return {"bos_token_id": ids.bos, "eos_token_id": list(ids.stops), "pad_token_id": ids.pad}
