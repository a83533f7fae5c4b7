"""A model's constants as `config.json` of Hugging Face, read in all its dialects and written in the common one.

Files written by transformers 5 have `dtype`, `rope_parameters` and `layer_types`; older ones
`torch_dtype`, `rope_theta` and `sliding_window_pattern`. What is written has both, so that old and
new readers agree.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gemwright.checkpoints.errors import CheckpointError
from gemwright.models.gemma import HUGGING_FACE_NAMES, Config

FILE_NAME = "config.json"

PACKED = {"quant_method": "gemwright"}
"""`quantization_config` of a folder whose weights are packed, see `packed_reader.py`."""

_SIZES = {
    "vocab_size": "vocab_size",
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_dim": "intermediate_size",
    "max_positions": "max_position_embeddings",
}
"""Our integer constants, and their names in the file."""

_DEFAULTS: dict[str, dict[str, Any]] = {
    "gemma": {"head_dim": 256, "max_position_embeddings": 8192},
    "gemma2": {
        "head_dim": 256,
        "max_position_embeddings": 8192,
        "query_pre_attn_scalar": 256,
        "sliding_window": 4096,
        "attn_logit_softcapping": 50.0,
        "final_logit_softcapping": 30.0,
    },
}
"""What an absent key means, by family: the defaults of transformers' configurations."""

_ARCHITECTURES = {"gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM"}

_TANH_GELU = "gelu_pytorch_tanh"
_REFUSED: dict[str, tuple[tuple[Any, ...], str]] = {
    "attention_bias": ((None, False), "Gemma's attention has no biases"),
    "tie_word_embeddings": ((None, True), "Gemma's head is its embedding; tie them before saving"),
    "use_bidirectional_attention": ((None, False), "only causal attention is computed"),
    "quantization_config": ((None, PACKED), "quantised Hugging Face files are not read; use the unquantised model"),
    "rope_scaling": ((None,), "scaled rotary embeddings are not computed for this family"),
    "hidden_activation": ((None, _TANH_GELU), "Gemma's activation is GELU by tanh; correct the file if it means that"),
}
"""Keys with the values that can be computed, and why no others."""

_PADDED_ROWS = {256_128: 256_000}
"""Embedding rows of padded checkpoints, and those that are pieces: the rest must never be sampled.

Google's Flax checkpoints of Gemma 1 and 2, and files made from them, have 256,128
(google-research/big_vision `models/ppp/gemma.py` deletes the same rows)."""


def vocabulary(rows: int) -> int:
    """The vocabulary of an embedding with so many rows, padding left out."""
    return _PADDED_ROWS.get(rows, rows)


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
    if not isinstance(family, str) or family not in _DEFAULTS:
        known = " or ".join(sorted(_DEFAULTS))
        raise ValueError(f"model_type: expected {known}, found {family!r}; this architecture is not supported")
    values = {**_DEFAULTS[family], **stored}
    _check_computable(family, values)
    constants: dict[str, Any] = {ours: _positive_int(values, theirs) for ours, theirs in _SIZES.items()}
    constants["vocab_size"] = vocabulary(constants["vocab_size"])
    constants["norm_epsilon"] = _positive(values, "rms_norm_eps", 1e-6)
    constants["rope_base"] = _rope_base(values)
    if family == "gemma":
        return Config(family=family, query_scale=constants["head_dim"] ** -0.5, **constants)
    return Config(
        family=family,
        query_scale=_positive(values, "query_pre_attn_scalar") ** -0.5,
        windows=_windows(values, constants["num_layers"]),
        attention_cap=_cap(values, "attn_logit_softcapping"),
        final_cap=_cap(values, "final_logit_softcapping"),
        post_norms=True,
        **constants,
    )


def _check_computable(family: str, values: Mapping[str, Any]) -> None:
    for key, (accepted, reason) in _REFUSED.items():
        if values.get(key) not in accepted:
            raise ValueError(f"{key}: expected {_either(accepted)}, found {values[key]!r}: {reason}")
    # "gelu" in files of Gemma 1 is a slip of the first release and means tanh
    activations = (None, _TANH_GELU, "gelu") if family == "gemma" else (None, _TANH_GELU)
    if values.get("hidden_act") not in activations:
        reason = _REFUSED["hidden_activation"][1]
        raise ValueError(f"hidden_act: expected {_TANH_GELU!r}, found {values['hidden_act']!r}: {reason}")


def _either(values: tuple[Any, ...]) -> str:
    return " or ".join("none" if value is None else json.dumps(value) for value in values)


def _positive_int(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}: expected a positive integer, found {value!r}")
    return value


def _positive(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = values.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{key}: expected a positive number, found {value!r}")
    return value


def _cap(values: Mapping[str, Any], key: str) -> float | None:
    return None if values.get(key) is None else float(_positive(values, key))


def _rope_base(values: Mapping[str, Any]) -> float:
    rope = values.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default" or not set(rope) <= _ROPE_KEYS:
        raise ValueError(f"rope_parameters: expected rope_type 'default' with rope_theta alone, found {rope!r}")
    return float(_positive({**values, **rope}, "rope_theta", 10_000.0))


_ROPE_KEYS = {"rope_theta", "rope_type"}


def _windows(values: Mapping[str, Any], layers: int) -> tuple[int | None, ...]:
    """What each layer sees, as the shortest pattern; Gemma 2's own where it fits."""
    types = _layer_types(values, layers)
    window = _positive_int(values, "sliding_window") if "sliding_attention" in types else None
    windows = [window if kind == "sliding_attention" else None for kind in types]
    patterns = [(window, None)] if window else []
    patterns += [tuple(windows[:length]) for length in range(1, layers + 1)]
    return next(p for p in patterns if all(seen == p[layer % len(p)] for layer, seen in enumerate(windows)))


def _layer_types(values: Mapping[str, Any], layers: int) -> list[str]:
    """As the file says, else by its period, else every other layer slides."""
    types, period = values.get("layer_types"), values.get("sliding_window_pattern") or 2
    if types is None:
        if not isinstance(period, int) or period < 1:
            raise ValueError(f"sliding_window_pattern: expected a positive integer, found {period!r}")
        return ["full_attention" if (layer + 1) % period == 0 else "sliding_attention" for layer in range(layers)]
    if not isinstance(types, list) or len(types) != layers:
        found = len(types) if isinstance(types, list) else repr(types)
        raise ValueError(f"layer_types: expected one for each of {layers} layers, found {found}")
    for kind in types:
        if kind not in ("sliding_attention", "full_attention"):
            raise ValueError(f"layer_types: expected sliding_attention or full_attention, found {kind!r}")
    return types


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
    _check_writable(config)
    rope = {"rope_theta": config.rope_base, "rope_type": "default"}
    return {
        "architectures": [_ARCHITECTURES[config.family]],
        "model_type": config.family,
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "hidden_act": _TANH_GELU,
        "hidden_activation": _TANH_GELU,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "rope_parameters": rope,
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
        **(_gemma2_json(config) if config.family == "gemma2" else {}),
    }


def generation_json(ids: TokenIds) -> dict[str, Any]:
    """What `generation_config.json` says: an answer ends at the end of a turn too, not at EOS alone."""
    return {"bos_token_id": ids.bos, "eos_token_id": list(ids.stops), "pad_token_id": ids.pad}


def _gemma2_json(config: Config) -> dict[str, Any]:
    window = next((w for w in config.windows if w is not None), None)
    kinds = [config.window(layer) for layer in range(config.num_layers)]
    return {
        "query_pre_attn_scalar": _scalar(config.query_scale),
        "attn_logit_softcapping": config.attention_cap,
        "final_logit_softcapping": config.final_cap,
        "sliding_window": window,
        "layer_types": ["full_attention" if kind is None else "sliding_attention" for kind in kinds],
    }


def _scalar(query_scale: float) -> int:
    """144 for 144**-0.5: transformers accepts an integer alone."""
    scalar = round(query_scale**-2)
    if abs(scalar**-0.5 - query_scale) > 1e-6 * query_scale:
        raise CheckpointError(f"query_scale {query_scale}: Hugging Face files say it as n**-0.5 with an integer n")
    return scalar


def _check_writable(config: Config) -> None:
    if config.family not in HUGGING_FACE_NAMES:
        raise CheckpointError(f"family {config.family!r}: expected one of {', '.join(HUGGING_FACE_NAMES)}")
    if len({w for w in config.windows if w is not None}) > 1:
        raise CheckpointError(f"windows {config.windows}: Hugging Face files say one size of window for all layers")
    plain = Config(
        **{ours: getattr(config, ours) for ours in _SIZES},
        family="gemma",
        query_scale=config.head_dim**-0.5,
        rope_base=config.rope_base,
        norm_epsilon=config.norm_epsilon,
    )
    if config.family == "gemma" and config != plain:
        raise CheckpointError(
            "a Gemma 1 with windows, caps, post norms or another query scale has no Hugging Face form"
        )
    if config.family == "gemma2" and not config.post_norms:
        raise CheckpointError("a Gemma 2 without post norms has no Hugging Face form")
