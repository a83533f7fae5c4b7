"""RecurrentGemma as `config.json` says it.

Published files say both branches of the MLP's width in one number, and the tokens that a token sees before itself in
place of the keys that it sees (transformers reads that number as keys, one less than the reference).
"""

from collections.abc import Mapping
from typing import Any

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_values import cap, check_computable, constants_of, positive_int, rope_base
from gemwright.models.griffin import FAMILY, Config

ARCHITECTURES = {FAMILY: "RecurrentGemmaForCausalLM"}

_SIZES = {
    "vocab_size": "vocab_size",
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "recurrent_dim": "lru_width",
    "taps": "conv1d_width",
}
"""Our integer constants, and their names in the file."""

_DEFAULTS: dict[str, Any] = {"conv1d_width": 4, "attention_window_size": 2048, "logits_soft_cap": 30.0}
"""What an absent key means: the defaults of transformers' configuration."""

_ROTATED = 0.5

_ACCEPTED = {
    "partial_rotary_factor": ((None, _ROTATED), "the first half of each head is rotated"),
    "embeddings_scale_by_sqrt_dim": ((None, True), "embeddings are scaled"),
}


def read(stored: Mapping[str, Any]) -> Config:
    """The constants of a file; raises ValueError with the key of what cannot be."""
    values = _with_widths({**_DEFAULTS, **stored})
    check_computable(values, _ACCEPTED)
    width = positive_int(values, "intermediate_size")
    if width % 2:
        raise ValueError(f"intermediate_size: expected both branches of the MLP, an even number, found {width}")
    return Config(
        **constants_of(values, _SIZES),
        head_dim=_head_dim(values),
        mlp_dim=width // 2,
        window=positive_int(values, "attention_window_size") + 1,
        pattern=_pattern(values),
        final_cap=cap(values, "logits_soft_cap"),
        rope_base=rope_base(values, _ROTATED),
    )


def _with_widths(values: Mapping[str, Any]) -> dict[str, Any]:
    """Null or nothing means a recurrence as wide as the embedding, and as many key heads as others."""
    given = {key: value for key, value in values.items() if value is not None}
    same = {"lru_width": values.get("hidden_size"), "num_key_value_heads": values.get("num_attention_heads")}
    return {**same, **given}


def _head_dim(values: Mapping[str, Any]) -> int:
    """The embedding's share of a head: transformers computes no other."""
    width, heads = positive_int(values, "hidden_size"), positive_int(values, "num_attention_heads")
    if width % heads or values.get("head_dim", width // heads) != width // heads:
        raise ValueError(f"head_dim: expected hidden_size / num_attention_heads, found {values.get('head_dim')!r}")
    return width // heads


def _pattern(values: Mapping[str, Any]) -> tuple[Any, ...]:
    kinds = values.get("block_types", ("recurrent", "recurrent", "attention"))
    known = ("recurrent", "attention")
    if not isinstance(kinds, list | tuple) or not kinds or any(kind not in known for kind in kinds):
        raise ValueError(f"block_types: expected a list of recurrent and attention, found {kinds!r}")
    return tuple(kinds)


def write(config: Config) -> dict[str, Any]:
    """What a file says of this family alone; raises CheckpointError if it cannot say what the model computes."""
    if config.head_dim * config.num_heads != config.embed_dim:
        raise CheckpointError("a RecurrentGemma whose heads are not the embedding's width has no Hugging Face form")
    if config.window < 2:
        raise CheckpointError("a RecurrentGemma whose window is a single key has no Hugging Face form")
    return {
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
        "head_dim": config.head_dim,
        "intermediate_size": 2 * config.mlp_dim,
        "attention_window_size": config.window - 1,
        "block_types": list(config.pattern),
        "logits_soft_cap": config.final_cap,
        "rms_norm_eps": config.norm_epsilon,
        "rope_theta": config.rope_base,
        "rope_parameters": {
            "rope_theta": config.rope_base,
            "rope_type": "default",
            "partial_rotary_factor": _ROTATED,
        },
        "partial_rotary_factor": _ROTATED,
        "embeddings_scale_by_sqrt_dim": True,
        "w_init_variance_scale": 0.01,
        "final_w_init_variance_scale": 2.0 / config.num_layers,
    }
