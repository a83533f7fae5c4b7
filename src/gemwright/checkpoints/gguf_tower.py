"""The tower of a Gemma 3 that sees, which llama.cpp keeps in a file of its own beside the decoder's, both ways.

Values: `convert_hf_to_gguf.py` and `tools/mtmd/clip.cpp` of ggml-org/llama.cpp. Of the norms the projector's alone is
stored with one added; the others are LayerNorms.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.core.names import NameTable
from gemwright.models import gemma3, gemma3_vision, siglip

PREFIX = "mmproj-"
"""Of a tower's file name, before that of its decoder."""

ARCHITECTURE = "clip"

_PROJECTOR = "gemma3"

_PAIRED = (
    ("vision.layers.*.attention_norm.", "v.blk.*.ln1"),
    ("vision.layers.*.mlp_norm.", "v.blk.*.ln2"),
    ("vision.final_norm.", "v.post_ln"),
)
_PRODUCTS = (
    ("vision.patch", "v.patch_embd"),
    ("vision.layers.*.attention.query", "v.blk.*.attn_q"),
    ("vision.layers.*.attention.key", "v.blk.*.attn_k"),
    ("vision.layers.*.attention.value", "v.blk.*.attn_v"),
    ("vision.layers.*.attention.output", "v.blk.*.attn_out"),
    ("vision.layers.*.mlp.up", "v.blk.*.ffn_up"),
    ("vision.layers.*.mlp.down", "v.blk.*.ffn_down"),
)

TOWER_NAMES: NameTable = (
    *((f"{ours}scale", f"{theirs}.weight") for ours, theirs in _PAIRED),
    *((f"{ours}bias", f"{theirs}.bias") for ours, theirs in _PAIRED),
    *((ours, f"{theirs}.weight") for ours, theirs in _PRODUCTS),
    *((f"{ours}_bias", f"{theirs}.bias") for ours, theirs in _PRODUCTS),
    ("vision.position", "v.position_embd.weight"),
    ("projector.norm", "mm.soft_emb_norm.weight"),
    ("projector.matrix", "mm.input_projection.weight"),
)
"""A weight's name here, and there."""

FIXED_TYPES: Mapping[str, str] = {
    "v.patch_embd.weight": "F32",
    "v.position_embd.weight": "F32",
    "mm.input_projection.weight": "F16",  # is turned around there, which is computed for this type
}
"""Tensors that have a type whatever the other matrices have."""

_SIZES = {
    "image_size": "image_size",
    "patch_size": "patch_size",
    "embed_dim": "embedding_length",
    "num_layers": "block_count",
    "num_heads": "attention.head_count",
    "mlp_dim": "feed_forward_length",
}
_EPSILON, _SCALE, _WIDTH = "attention.layer_norm_epsilon", "projector.scale_factor", "projection_dim"
_USUAL_SCALE = 4  # sides of a square of patches whose mean is a soft token, where no key says so


def is_tower_tensor(name: str) -> bool:
    """Whether a tensor of llama.cpp's name stands in the tower's file."""
    return name.startswith(("v.", "mm."))


def tower_of(path: Path) -> Path | None:
    """The tower's file beside a decoder's, if any: the one named after it, or the only one beside the only model."""
    own = path.with_name(PREFIX + path.name)
    if own.is_file():
        return own
    files = [file for file in path.parent.glob(f"*{path.suffix}") if file.is_file()]
    towers = [file for file in files if file.name.startswith(PREFIX)]
    return towers[0] if len(towers) == 1 and len(files) == 2 and path not in towers else None


# ------------------------------------------------------------------------------------------ write


def tower_metadata(config: gemma3_vision.Config) -> dict[str, Any]:
    """The keys from which llama.cpp makes this tower and its projector."""
    vision, scale = config.vision, config.patches_per_side // config.tokens_per_side
    keys: dict[str, Any] = {
        **{theirs: getattr(vision, ours) for ours, theirs in _SIZES.items()},
        _EPSILON: vision.norm_epsilon,
        _WIDTH: config.embed_dim,
        "image_mean": [0.5] * 3,  # pixels from -1 to 1
        "image_std": [0.5] * 3,
        **({_SCALE: scale} if scale != _USUAL_SCALE else {}),
    }
    return {
        "clip.has_vision_encoder": True,
        "clip.projector_type": _PROJECTOR,
        "clip.use_gelu": True,
        **{f"clip.vision.{key}": value for key, value in keys.items()},
    }


# ------------------------------------------------------------------------------------------- read


def tower_config(metadata: Mapping[str, Any], decoder: Any) -> gemma3_vision.Config:
    """The constants of a decoder with the tower that a file holds.

    Raises:
      ValueError: if it is another kind of tower, or made for another decoder; names the key, what was expected and
        found.
    """
    if not isinstance(decoder, gemma3.Config):
        raise ValueError(f"expected the tower of a Gemma 3 beside one, found it beside a {decoder.family}")
    _check(metadata, decoder)
    sizes = {ours: _positive_int(metadata, f"clip.vision.{theirs}") for ours, theirs in _SIZES.items()}
    epsilon = metadata.get(f"clip.vision.{_EPSILON}")
    if not isinstance(epsilon, float) or not 0 < epsilon < 1:
        raise ValueError(f"clip.vision.{_EPSILON}: expected a small number, found {epsilon!r}")
    vision = siglip.Config(**sizes, norm_epsilon=float(str(np.float32(epsilon))))
    scale = _positive_int({_SCALE: _USUAL_SCALE, **_own(metadata)}, _SCALE)
    patches = vision.image_size // vision.patch_size
    if patches % scale:
        raise ValueError(f"clip.vision.{_SCALE}: expected a divisor of the {patches} patches of a side, found {scale}")
    return gemma3_vision.Config(vision, decoder, picture_tokens=(patches // scale) ** 2)


def _check(metadata: Mapping[str, Any], decoder: gemma3.Config) -> None:
    expected = {
        "general.architecture": ARCHITECTURE,
        "clip.projector_type": _PROJECTOR,
        "clip.use_gelu": True,
        f"clip.vision.{_WIDTH}": decoder.embed_dim,
    }
    for key, value in expected.items():
        found = metadata.get(key, metadata.get(key.replace("clip.", "clip.vision.")))
        if isinstance(found, np.ndarray) or found != value:
            raise ValueError(f"{key}: expected {value!r}, found {found!r}; such a tower is not computed")
    for key in ("image_mean", "image_std"):
        found = np.asarray(metadata.get(f"clip.vision.{key}", 0.5))
        if not np.array_equal(found, np.full(found.shape, 0.5, found.dtype)):
            raise ValueError(f"clip.vision.{key}: expected 0.5 for each colour, found {found.tolist()}")


def _own(metadata: Mapping[str, Any]) -> dict[str, Any]:
    return {
        key.removeprefix("clip.vision."): value for key, value in metadata.items() if key.startswith("clip.vision.")
    }


def _positive_int(values: Mapping[str, Any], key: str) -> int:
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}: expected a positive integer, found {value!r}")
    return value


def named_rightly(tensors: Mapping[str, Any], width: Any) -> dict[str, Any]:
    """Tensors by their names. Files of before May 2025 have a block's two products by each other's.

    Args:
      width: of the tower, which the first product reads.
    """
    first = tensors.get("v.blk.0.ffn_down.weight")
    if first is None or first.shape[-1] != width or tensors.get("v.blk.0.ffn_up.weight", first).shape[-1] == width:
        return dict(tensors)
    other = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}
    return {".".join(other.get(part, part) for part in name.split(".")): one for name, one in tensors.items()}
