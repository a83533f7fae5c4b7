"""What files of all models that see have in common: the tower in `config.json`, and names of tensors over the years."""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from gemwright.checkpoints.hf_values import TANH_GELU, check_computable, positive, positive_int
from gemwright.models.siglip import Config

T = TypeVar("T")

_MODEL_TYPE = "siglip_vision_model"

_SIZES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
}
"""The tower's integer constants, and their names in the file."""

_DEFAULTS: dict[str, Any] = {
    "model_type": _MODEL_TYPE,
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_channels": 3,
}
"""What an absent key means: the defaults of transformers' configuration."""

_ACCEPTED = {
    "model_type": ((_MODEL_TYPE,), "the models that see do so through SigLIP"),
    "hidden_act": ((None, TANH_GELU), "SigLIP's activation is GELU by tanh"),
    "num_channels": ((3,), "pictures have three colours"),
}


def part(stored: Mapping[str, Any], key: str, read_part: Callable[[Mapping[str, Any]], T]) -> T:
    """What a file says of one half of a model; raises ValueError with the keys of what cannot be."""
    found = stored.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"{key}: expected an object, found {found!r}")
    try:
        return read_part(found)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def read(stored: Mapping[str, Any]) -> Config:
    """A tower's constants; raises ValueError with the key of what cannot be."""
    values = {**_DEFAULTS, **stored}
    check_computable(values, _ACCEPTED)
    sizes = {ours: positive_int(values, theirs) for ours, theirs in _SIZES.items()}
    return Config(**sizes, norm_epsilon=positive(values, "layer_norm_eps", 1e-6))


def write(config: Config) -> dict[str, Any]:
    """What a file says of a tower."""
    return {
        "model_type": _MODEL_TYPE,
        "hidden_act": TANH_GELU,
        "num_channels": 3,
        "vision_use_head": False,
        "layer_norm_eps": config.norm_epsilon,
        **{theirs: getattr(config, ours) for ours, theirs in _SIZES.items()},
    }


_RENAMED = (
    (re.compile(r"^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)"), ""),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.(?!model\.)"), "language_model.model."),
    (re.compile(r"^vision_tower\.vision_model\."), "vision_tower."),
)


def newest_name(name: str) -> str:
    """A tensor's name in the files that transformers 5 writes, from its name in older ones or in memory.

    Names of models that read text alone are what they were.
    """
    for pattern, new in _RENAMED:
        name = pattern.sub(new, name)
    return name
