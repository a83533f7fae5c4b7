"""Gemma 1 and 2 as `config.json` says them."""

from collections.abc import Mapping
from typing import Any

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_values import (
    SIZES,
    TANH_GELU,
    cap,
    check_computable,
    constants_of,
    kinds_of,
    positive,
    query_scalar,
    rope_base,
    windows_of,
)
from gemwright.models.gemma import Config

ARCHITECTURES = {"gemma": "GemmaForCausalLM", "gemma2": "Gemma2ForCausalLM"}

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


_PERIOD = 2

_ACTIVATION = "Gemma's activation is GELU by tanh; correct the file if it means that"


def read(stored: Mapping[str, Any]) -> Config:
    """The constants of a file; raises ValueError with the key of what cannot be."""
    family = stored["model_type"]
    values = {**_DEFAULTS[family], **stored}
    # "gelu" in files of Gemma 1 is a slip of the first release and means tanh
    activations = (None, TANH_GELU, "gelu") if family == "gemma" else (None, TANH_GELU)
    check_computable(values, {"hidden_act": (activations, _ACTIVATION)})
    constants: dict[str, Any] = {**constants_of(values, SIZES), "rope_base": rope_base(values)}
    if family == "gemma":
        return Config(family=family, query_scale=constants["head_dim"] ** -0.5, **constants)
    return Config(
        family=family,
        query_scale=positive(values, "query_pre_attn_scalar") ** -0.5,
        windows=windows_of(values, constants["num_layers"], _PERIOD),
        attention_cap=cap(values, "attn_logit_softcapping"),
        final_cap=cap(values, "final_logit_softcapping"),
        post_norms=True,
        **constants,
    )


def write(config: Config) -> dict[str, Any]:
    """What a file says of this family alone; raises CheckpointError if it cannot say what the model computes."""
    _check_writable(config)
    return {
        **{theirs: getattr(config, ours) for ours, theirs in SIZES.items()},
        "hidden_act": TANH_GELU,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "rope_parameters": {"rope_theta": config.rope_base, "rope_type": "default"},
        **(_gemma2_json(config) if config.family == "gemma2" else {}),
    }


def _gemma2_json(config: Config) -> dict[str, Any]:
    window = next((w for w in config.windows if w is not None), None)
    return {
        "query_pre_attn_scalar": query_scalar(config.query_scale),
        "attn_logit_softcapping": config.attention_cap,
        "final_logit_softcapping": config.final_cap,
        "sliding_window": window,
        "layer_types": kinds_of(config.window(layer) for layer in range(config.num_layers)),
    }


def _check_writable(config: Config) -> None:
    if len({w for w in config.windows if w is not None}) > 1:
        raise CheckpointError(f"windows {config.windows}: Hugging Face files say one size of window for all layers")
    plain = Config(
        **{ours: getattr(config, ours) for ours in SIZES},
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
