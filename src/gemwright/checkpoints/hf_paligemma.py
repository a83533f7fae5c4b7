"""PaliGemma 1 and 2 as `config.json` says them: a tower, a decoder, and the names of their tensors over the years."""

import re
from collections.abc import Mapping
from typing import Any

from gemwright.checkpoints import hf_gemma
from gemwright.checkpoints.hf_values import TANH_GELU, check_computable, positive, positive_int
from gemwright.models import gemma, siglip
from gemwright.models.paligemma import VOCAB_SIZE, Config

ARCHITECTURE = "PaliGemmaForConditionalGeneration"

DECODERS = {"paligemma": "gemma", "paligemma2": "gemma2"}
"""By family: that of the decoder, by which alone files tell the families apart."""

_MODEL_TYPE, _TOWER = "paligemma", "siglip_vision_model"

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
    "model_type": _TOWER,
    "image_size": 224,
    "patch_size": 16,
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "num_channels": 3,
}
"""What an absent key of the tower means: the defaults of transformers' configuration."""

_ACCEPTED = {
    "model_type": ((_TOWER,), "PaliGemma sees through SigLIP"),
    "hidden_act": ((None, TANH_GELU), "SigLIP's activation is GELU by tanh"),
    "num_channels": ((3,), "pictures have three colours"),
}

_BOTH_WAYS = "use_bidirectional_attention"
_PREFIX = {_BOTH_WAYS: ((None, True), "picture and prompt see all of each other")}
"""transformers 5 says so of the prefix alone."""


def read(stored: Mapping[str, Any]) -> Config:
    """The constants of a file; raises ValueError with the key of what cannot be."""
    check_computable({"tie_word_embeddings": stored.get("tie_word_embeddings")}, {})
    vision, decoder = _part(stored, "vision_config", _read_tower), _part(stored, "text_config", _read_decoder)
    return Config(vision, decoder, positive_int({"image_token_index": VOCAB_SIZE, **stored}, "image_token_index"))


def _part(stored: Mapping[str, Any], key: str, read_part: Any) -> Any:
    part = stored.get(key)
    if not isinstance(part, dict):
        raise ValueError(f"{key}: expected an object, found {part!r}")
    try:
        return read_part(part)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from None


def _read_tower(stored: Mapping[str, Any]) -> siglip.Config:
    values = {**_DEFAULTS, **stored}
    check_computable(values, _ACCEPTED)
    sizes = {ours: positive_int(values, theirs) for ours, theirs in _SIZES.items()}
    return siglip.Config(**sizes, norm_epsilon=positive(values, "layer_norm_eps", 1e-6))


def _read_decoder(stored: Mapping[str, Any]) -> gemma.Config:
    values = {"model_type": "gemma", "vocab_size": VOCAB_SIZE, **stored}
    if values["model_type"] not in DECODERS.values():
        raise ValueError(f"model_type: expected {' or '.join(DECODERS.values())}, found {values['model_type']!r}")
    check_computable({_BOTH_WAYS: values.pop(_BOTH_WAYS, None)}, _PREFIX)
    return hf_gemma.read(values)


def write(config: Config) -> dict[str, Any]:
    """What a file says of these families alone; raises CheckpointError if it cannot say what the model computes."""
    tower, size = config.vision, config.decoder.embed_dim
    return {
        "model_type": _MODEL_TYPE,
        "image_token_index": config.image_token,
        "vocab_size": config.decoder.vocab_size,
        "hidden_size": size,
        "projection_dim": size,
        "text_config": {
            "model_type": config.decoder.family,
            "hidden_activation": TANH_GELU,
            "num_image_tokens": tower.patches,
            **hf_gemma.write(config.decoder),
        },
        "vision_config": {
            "model_type": _TOWER,
            "hidden_act": TANH_GELU,
            "num_channels": 3,
            "num_image_tokens": tower.patches,
            "projection_dim": size,
            "vision_use_head": False,
            "layer_norm_eps": tower.norm_epsilon,
            **{theirs: getattr(tower, ours) for ours, theirs in _SIZES.items()},
        },
    }


_RENAMED = (
    (re.compile(r"^model\.(?=language_model\.|vision_tower\.|multi_modal_projector\.)"), ""),
    (re.compile(r"^language_model\.lm_head\."), "lm_head."),
    (re.compile(r"^language_model\.(?!model\.)"), "language_model.model."),
    (re.compile(r"^vision_tower\.vision_model\."), "vision_tower."),
)


def newest_name(name: str) -> str:
    """A tensor's name in the files that transformers 5 writes, from its name in older ones or in memory."""
    for pattern, new in _RENAMED:
        name = pattern.sub(new, name)
    return name
