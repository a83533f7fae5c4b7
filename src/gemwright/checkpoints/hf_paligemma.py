"""PaliGemma 1 and 2 as `config.json` says them: a tower and a decoder."""

from collections.abc import Mapping
from typing import Any

from gemwright.checkpoints import hf_gemma, hf_siglip
from gemwright.checkpoints.hf_values import TANH_GELU, check_computable, positive_int
from gemwright.models import gemma
from gemwright.models.paligemma import VOCAB_SIZE, Config

ARCHITECTURES = dict.fromkeys(("paligemma", "paligemma2"), "PaliGemmaForConditionalGeneration")

_DECODERS = ("gemma", "gemma2")
"""Families of the decoder, by which alone files tell the two apart."""

_MODEL_TYPE = "paligemma"

_BOTH_WAYS = "use_bidirectional_attention"
_PREFIX = {_BOTH_WAYS: ((None, True), "picture and prompt see all of each other")}
"""transformers 5 says so of the prefix alone."""


def read(stored: Mapping[str, Any]) -> Config:
    """The constants of a file; raises ValueError with the key of what cannot be."""
    check_computable({"tie_word_embeddings": stored.get("tie_word_embeddings")}, {})
    vision = hf_siglip.part(stored, "vision_config", hf_siglip.read)
    decoder = hf_siglip.part(stored, "text_config", _read_decoder)
    return Config(vision, decoder, positive_int({"image_token_index": VOCAB_SIZE, **stored}, "image_token_index"))


def _read_decoder(stored: Mapping[str, Any]) -> gemma.Config:
    values = {"model_type": "gemma", "vocab_size": VOCAB_SIZE, **stored}
    if values["model_type"] not in _DECODERS:
        raise ValueError(f"model_type: expected {' or '.join(_DECODERS)}, found {values['model_type']!r}")
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
        "vision_config": {**hf_siglip.write(tower), "num_image_tokens": tower.patches, "projection_dim": size},
    }
