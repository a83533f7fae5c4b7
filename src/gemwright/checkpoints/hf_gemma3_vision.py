"""Gemma 3 from the 4B on, whole, as `config.json` says it: a tower, a decoder, and what is between them."""

from collections.abc import Mapping
from typing import Any

from gemwright.checkpoints import hf_gemma3, hf_siglip
from gemwright.checkpoints.hf_values import TANH_GELU, check_computable, positive_int
from gemwright.models import gemma3
from gemwright.models.gemma3_vision import FAMILY, Config

ARCHITECTURES = {FAMILY: "Gemma3ForConditionalGeneration"}

_PICTURE_TOKENS = "mm_tokens_per_image"
_MARKS = {"boi_token_index": 255_999, "eoi_token_index": 256_000, "image_token_index": 262_144}
"""Ids of the pieces around a picture and of its soft tokens, in Gemma 3's vocabulary. Nothing here reads them: a
tokenizer knows the first two, and soft tokens have no rows."""


def read(stored: Mapping[str, Any]) -> Config:
    """The constants of a file; raises ValueError with the key of what cannot be."""
    check_computable({"tie_word_embeddings": stored.get("tie_word_embeddings")}, {})
    vision = hf_siglip.part(stored, "vision_config", hf_siglip.read)
    decoder = hf_siglip.part(stored, "text_config", _read_decoder)
    return Config(vision, decoder, positive_int({_PICTURE_TOKENS: 256, **stored}, _PICTURE_TOKENS))


def _read_decoder(stored: Mapping[str, Any]) -> gemma3.Config:
    found = stored.get("model_type", gemma3.FAMILY)
    if found != gemma3.FAMILY:
        raise ValueError(f"model_type: expected {gemma3.FAMILY}, found {found!r}")
    return hf_gemma3.read(stored)


def write(config: Config) -> dict[str, Any]:
    """What a file says of this family alone; raises CheckpointError if it cannot say what the model computes."""
    decoder = {"model_type": gemma3.FAMILY, "hidden_activation": TANH_GELU, **hf_gemma3.write(config.decoder)}
    return {
        **_MARKS,
        _PICTURE_TOKENS: config.picture_tokens,
        "text_config": decoder,
        "vision_config": hf_siglip.write(config.vision),
    }
