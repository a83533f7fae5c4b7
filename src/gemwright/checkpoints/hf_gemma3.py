"""Gemma 3, its text, as `config.json` says it, or the `text_config` of a model that also sees."""

from collections.abc import Mapping
from typing import Any

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_values import (
    SIZES,
    check_computable,
    constants_of,
    kinds_of,
    positive,
    query_scalar,
    windows_of,
)
from gemwright.models.gemma3 import FAMILY, Config

ARCHITECTURES = {FAMILY: "Gemma3ForCausalLM"}

_DEFAULTS: dict[str, Any] = {
    "vocab_size": 262_208,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131_072,
    "query_pre_attn_scalar": 256,
    "sliding_window": 4096,
    "rope_theta": 1_000_000.0,
    "rope_local_base_freq": 10_000.0,
}
"""What an absent key means: the defaults of transformers' configuration."""

_PERIOD = 6

_NO_CAP = "Gemma 3 has no soft caps"
_ACCEPTED = {
    "attn_logit_softcapping": ((None,), _NO_CAP),
    "final_logit_softcapping": ((None,), _NO_CAP),
}


def read(stored: Mapping[str, Any]) -> Config:
    """The constants of a file; raises ValueError with the key of what cannot be."""
    values = {**_DEFAULTS, **stored}
    scaling = values.pop("rope_scaling", None)
    check_computable(values, _ACCEPTED)
    constants = constants_of(values, SIZES)
    base, factor = _rope(values, "full_attention", "rope_theta", scaling)
    local_base, local_factor = _rope(values, "sliding_attention", "rope_local_base_freq", None)
    if local_factor != 1:
        raise ValueError(f"rope_parameters: expected no factor for sliding_attention, found {local_factor}")
    return Config(
        query_scale=positive(values, "query_pre_attn_scalar") ** -0.5,
        windows=windows_of(values, constants["num_layers"], _PERIOD),
        rope_base=base,
        local_rope_base=local_base,
        rope_factor=factor,
        **constants,
    )


def _rope(values: Mapping[str, Any], kind: str, key: str, scaling: Any) -> tuple[float, float]:
    """Base and factor for a kind of layer: of new files in `rope_parameters`, of older ones in keys of their own."""
    found = values.get("rope_parameters") or {}
    if not isinstance(found, dict) or not found.keys() <= {"full_attention", "sliding_attention"}:
        raise ValueError(f"rope_parameters: expected those of full_attention and sliding_attention, found {found!r}")
    said = {"rope_theta": values[key], **(scaling or {}), **(found.get(kind) or {})}
    type_ = said.get("rope_type", said.get("type", "default"))
    known = {"rope_theta", "rope_type", "type"} | ({"factor"} if type_ == "linear" else set())
    if type_ not in ("default", "linear") or not set(said) <= known:
        raise ValueError(f"rope_parameters of {kind}: expected a base and at most a linear factor, found {said!r}")
    return float(positive(said, "rope_theta")), float(positive(said, "factor", 1.0))


def write(config: Config) -> dict[str, Any]:
    """What a file says of this family alone; raises CheckpointError if it cannot say what the model computes."""
    windows = {window for window in config.windows if window is not None}
    if len(windows) > 1:
        raise CheckpointError(f"windows {config.windows}: Hugging Face files say one size of window for all layers")
    scaling = {"rope_type": "linear", "factor": config.rope_factor} if config.rope_factor != 1 else None
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "rms_norm_eps": config.norm_epsilon,
        "query_pre_attn_scalar": query_scalar(config.query_scale),
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
        "sliding_window": next(iter(windows), None),
        "layer_types": kinds_of(config.window(layer) for layer in range(config.num_layers)),
        "rope_theta": config.rope_base,
        "rope_local_base_freq": config.local_rope_base,
        "rope_scaling": scaling,
        "rope_parameters": {
            "full_attention": {"rope_theta": config.rope_base, **(scaling or {"rope_type": "default"})},
            "sliding_attention": {"rope_theta": config.local_rope_base, "rope_type": "default"},
        },
    }
