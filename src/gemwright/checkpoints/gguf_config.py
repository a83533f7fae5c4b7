"""A model's constants as the metadata of a GGUF file, both ways.

Much is not in the metadata but in llama.cpp itself: every other layer of Gemma 2 slides and five in six
of Gemma 3, the query scale follows from the number of layers (`src/llama-model.cpp`). What is written is
therefore read back first, and refused if another model would come out.
"""

import math
from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.gguf_names import ARCHITECTURES
from gemwright.checkpoints.gguf_tower import ARCHITECTURE as TOWER
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.models import gemma, gemma3

Config = gemma.Config | gemma3.Config

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
_SCALING, _FACTOR = "rope.scaling.type", "rope.scaling.factor"
_ATTENTION_CAP, _FINAL_CAP = "attn_logit_softcapping", "final_logit_softcapping"

_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {_ROPE_BASE: 10_000.0},
    "gemma2": {_ROPE_BASE: 10_000.0, _WINDOW: 4096, _ATTENTION_CAP: 50.0, _FINAL_CAP: 30.0},
    "gemma3": {_ROPE_BASE: 10_000.0, _FACTOR: 1.0},
}
"""By architecture: what an absent key means to llama.cpp."""

_LAYERS_OF_27B = {"gemma2": 46, "gemma3": 62}
"""By which llama.cpp knows the models whose queries are scaled otherwise."""

_LOCAL_BASE, _PERIOD = 10_000.0, 6
"""Of Gemma 3's local layers; newer files may say both, older readers do not look."""


# ------------------------------------------------------------------------------------------ read


def architecture_of(metadata: Mapping[str, Any]) -> str:
    """llama.cpp's name of the family that a file is of.

    Raises:
      ValueError: if it is none of Gemma's.
    """
    found: Any = metadata.get(ARCHITECTURE)
    if isinstance(found, str) and found == TOWER:
        raise ValueError("expected a model, found the tower of one that sees; name the model's file beside it")
    if not isinstance(found, str) or found not in _DEFAULTS:
        known = " or ".join(_DEFAULTS)
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
    architecture = architecture_of(metadata)
    values = {f"{architecture}.{key}": value for key, value in _DEFAULTS[architecture].items()} | dict(metadata)
    constants: dict[str, Any] = {ours: _positive_int(values, f"{architecture}.{key}") for ours, key in _SIZES.items()}
    _check_computable(architecture, values, constants["head_dim"])
    constants |= {
        "vocab_size": vocabulary(rows),
        "query_scale": _query_scale(architecture, constants),
        "norm_epsilon": _positive(values, f"{architecture}.{_EPSILON}"),
        "rope_base": _positive(values, f"{architecture}.{_ROPE_BASE}"),
    }
    if architecture == "gemma3":
        return gemma3.Config(**constants, **_gemma3(values))
    return gemma.Config(family=architecture, **constants, **(_gemma2(values) if architecture == "gemma2" else {}))


def _gemma3(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "windows": (*(_positive_int(values, f"gemma3.{_WINDOW}"),) * (_PERIOD - 1), None),
        "local_rope_base": _LOCAL_BASE,
        "rope_factor": _positive(values, f"gemma3.{_FACTOR}"),
    }


def _gemma2(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "windows": (_positive_int(values, f"gemma2.{_WINDOW}"), None),
        "attention_cap": _positive(values, f"gemma2.{_ATTENTION_CAP}"),
        "final_cap": _positive(values, f"gemma2.{_FINAL_CAP}"),
        "post_norms": True,
    }


def _query_scale(architecture: str, constants: Mapping[str, int]) -> float:
    """As llama.cpp decides it: it is in no key."""
    if constants["num_layers"] == _LAYERS_OF_27B.get(architecture):
        return (constants["embed_dim"] // constants["num_heads"]) ** -0.5
    return constants["head_dim"] ** -0.5


def _check_computable(architecture: str, values: Mapping[str, Any], head_dim: int) -> None:
    accepted: dict[str, tuple[Any, ...]] = {
        "attention.value_length": (None, head_dim),
        "rope.dimension_count": (None, head_dim),
        _SCALING: (None, "none", "linear"),
        "attention.causal": (None, True),
        **(_CHECKED_GEMMA3 if architecture == "gemma3" else {_FACTOR: (None, 0, 1)}),
    }
    for key, good in accepted.items():
        found = values.get(f"{architecture}.{key}")
        if isinstance(found, np.ndarray) or found not in good:
            raise ValueError(
                f"{architecture}.{key}: expected {good[-1]!r} or none, found {found!r}; this is not computed"
            )


_CHECKED_GEMMA3: Mapping[str, tuple[Any, ...]] = {
    "rope.freq_base_swa": (None, _LOCAL_BASE),
    "attention.sliding_window_pattern": (None, _PERIOD),
    _ATTENTION_CAP: (None, 0),
    _FINAL_CAP: (None, 0),
}


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


def metadata_of(config: Config) -> dict[str, int | float | str]:
    """The keys from which llama.cpp makes this model.

    Raises:
      CheckpointError: if llama.cpp would compute another one; names the constant.
    """
    architecture = ARCHITECTURES[config.family]
    keys = {
        "vocab_size": config.vocab_size,
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "attention.value_length": config.head_dim,
        _EPSILON: config.norm_epsilon,
        _ROPE_BASE: config.rope_base,
        **_own_keys(config),
    }
    metadata = {f"{architecture}.{key}": value for key, value in keys.items()}
    try:
        read = config_of({ARCHITECTURE: architecture, **metadata}, config.vocab_size)
    except ValueError as error:
        raise CheckpointError(f"{error}; such a model has no GGUF form, save it as a Hugging Face folder") from None
    _check_same(config, read)
    return metadata


def _own_keys(config: Config) -> dict[str, int | float | str]:
    """What is said of one family alone."""
    window = next((window for window in config.windows if window is not None), None)
    if isinstance(config, gemma3.Config):
        scaling = {_SCALING: "linear", _FACTOR: config.rope_factor} if config.rope_factor != 1 else {}
        keys = {_WINDOW: window, **scaling}
    elif config.family == "gemma2":
        keys = {_WINDOW: window, _ATTENTION_CAP: config.attention_cap, _FINAL_CAP: config.final_cap}
    else:
        keys = {}
    return {key: value for key, value in keys.items() if value is not None}


def _check_same(ours: Config, theirs: Config) -> None:
    for field in fields(ours):
        mine, computed = (_comparable(config, field.name) for config in (ours, theirs))
        if not _equal(mine, computed):
            raise CheckpointError(
                f"{field.name}: expected {computed}, which llama.cpp computes for a {ARCHITECTURES[ours.family]} of "
                f"these sizes, found {mine}; such a model has no GGUF form, save it as a Hugging Face folder"
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
