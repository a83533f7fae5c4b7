"""A model's constants as the metadata of a GGUF file, both ways.

Much is not in the metadata but in llama.cpp itself: every other layer of Gemma 2 slides, the query
scale follows from the number of layers (`src/llama-model.cpp`). What is written is therefore read
back first, and refused if another model would come out.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_names import TENSOR_NAMES
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.models.gemma import Config

ARCHITECTURE = "general.architecture"

_SIZES = {
    "embed_dim": "embedding_length",
    "num_layers": "block_count",
    "num_heads": "attention.head_count",
    "num_kv_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "mlp_dim": "feed_forward_length",
    "max_positions": "context_length",
}
"""Our integer constants, and llama.cpp's keys after the architecture."""

_EPSILON, _ROPE_BASE = "attention.layer_norm_rms_epsilon", "rope.freq_base"
_WINDOW = "attention.sliding_window"
_ATTENTION_CAP, _FINAL_CAP = "attn_logit_softcapping", "final_logit_softcapping"

_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {_ROPE_BASE: 10_000.0},
    "gemma2": {_ROPE_BASE: 10_000.0, _WINDOW: 4096, _ATTENTION_CAP: 50.0, _FINAL_CAP: 30.0},
}
"""What an absent key means to llama.cpp."""

_LAYERS_OF_27B = 46  # by which llama.cpp knows the model whose queries are scaled otherwise


# ------------------------------------------------------------------------------------------ read


def family_of(metadata: Mapping[str, Any]) -> str:
    """Gemma's family that a file is of.

    Raises:
      ValueError: if it is of another architecture.
    """
    found: Any = metadata.get(ARCHITECTURE)
    if not isinstance(found, str) or found not in TENSOR_NAMES:
        known = " or ".join(TENSOR_NAMES)
        raise ValueError(f"{ARCHITECTURE}: expected {known}, found {found!r}; this architecture is not supported")
    return found


def config_of(metadata: Mapping[str, Any], rows: int) -> Config:
    """The constants of the model that llama.cpp computes from these metadata.

    Args:
      metadata: of the whole file, by key.
      rows: of the embedding, padding included.

    Raises:
      ValueError: if the model is of another family or computes something else; names the key, what
        was expected and found.
    """
    family = family_of(metadata)
    values = {f"{family}.{key}": value for key, value in _DEFAULTS[family].items()} | dict(metadata)
    constants: dict[str, Any] = {ours: _positive_int(values, f"{family}.{key}") for ours, key in _SIZES.items()}
    _check_computable(family, values, constants["head_dim"])
    return Config(
        family=family,
        vocab_size=vocabulary(rows),
        query_scale=_query_scale(family, constants),
        norm_epsilon=_positive(values, f"{family}.{_EPSILON}"),
        rope_base=_positive(values, f"{family}.{_ROPE_BASE}"),
        **constants,
        **(_gemma2(values) if family == "gemma2" else {}),
    )


def _gemma2(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "windows": (_positive_int(values, f"gemma2.{_WINDOW}"), None),
        "attention_cap": _positive(values, f"gemma2.{_ATTENTION_CAP}"),
        "final_cap": _positive(values, f"gemma2.{_FINAL_CAP}"),
        "post_norms": True,
    }


def _query_scale(family: str, constants: Mapping[str, int]) -> float:
    """As llama.cpp decides it: it is in no key."""
    if family == "gemma2" and constants["num_layers"] == _LAYERS_OF_27B:
        return (constants["embed_dim"] // constants["num_heads"]) ** -0.5
    return constants["head_dim"] ** -0.5


def _check_computable(family: str, values: Mapping[str, Any], head_dim: int) -> None:
    accepted: dict[str, tuple[Any, ...]] = {
        "attention.value_length": (None, head_dim),
        "rope.dimension_count": (None, head_dim),
        "rope.scaling.type": (None, "none", "linear"),
        "rope.scaling.factor": (None, 0, 1),
        "attention.causal": (None, True),
    }
    for key, good in accepted.items():
        found = values.get(f"{family}.{key}")
        if isinstance(found, np.ndarray) or found not in good:
            raise ValueError(f"{family}.{key}: expected {good[-1]!r} or none, found {found!r}; this is not computed")


def _positive_int(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}: expected a positive integer, found {value!r}")
    return value


def _positive(values: Mapping[str, Any], key: str) -> float:
    value = values.get(key)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{key}: expected a positive number, found {value!r}")
    return float(str(np.float32(value)))  # 1e-6, not the float32 next to it


# ----------------------------------------------------------------------------------------- write


def metadata_of(config: Config) -> dict[str, int | float]:
    """The keys from which llama.cpp makes this model.

    Raises:
      CheckpointError: if llama.cpp would compute another one; names the constant.
    """
    if config.family not in TENSOR_NAMES:
        raise CheckpointError(f"family {config.family!r}: expected one of {', '.join(TENSOR_NAMES)}")
    keys = {
        "vocab_size": config.vocab_size,
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "attention.value_length": config.head_dim,
        _EPSILON: config.norm_epsilon,
        _ROPE_BASE: config.rope_base,
        **(_gemma2_keys(config) if config.family == "gemma2" else {}),
    }
    metadata = {f"{config.family}.{key}": value for key, value in keys.items()}
    _check_same(config, config_of({ARCHITECTURE: config.family, **metadata}, config.vocab_size))
    return metadata


def _gemma2_keys(config: Config) -> dict[str, int | float]:
    keys = {
        _WINDOW: next((window for window in config.windows if window is not None), None),
        _ATTENTION_CAP: config.attention_cap,
        _FINAL_CAP: config.final_cap,
    }
    return {key: value for key, value in keys.items() if value is not None}


def _check_same(ours: Config, theirs: Config) -> None:
    for field in fields(Config):
        mine, computed = (_comparable(config, field.name) for config in (ours, theirs))
        if not _equal(mine, computed):
            raise CheckpointError(
                f"{field.name}: expected {computed}, which llama.cpp computes for a {ours.family} of these sizes, "
                f"found {mine}; such a model has no GGUF form, save it as a Hugging Face folder"
            )


def _comparable(config: Config, name: str) -> Any:
    """The windows of all layers, since patterns of them can be written in several ways."""
    if name == "windows":
        return [config.window(layer) for layer in range(config.num_layers)]
    return getattr(config, name)


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, float) and isinstance(theirs, float):
        return math.isclose(mine, theirs, rel_tol=1e-6)  # float32 in the file
    return mine == theirs
