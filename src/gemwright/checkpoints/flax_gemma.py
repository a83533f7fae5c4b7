"""Gemma 1, 2 and 3, their text, in Google's Flax releases: which tensor is which weight.

Layout: google-deepmind/gemma, before b5aef38 `gemma/modules.py` (shapes); for Gemma 3 huggingface/transformers
`models/gemma3/convert_gemma3_weights.py`. Matrices there are (in, out) and ours (out, in), so that most are
transposed. The size of the model is read from the shapes.

Letters: D embedding width, H query heads, G key/value heads, K head size, F width of one MLP branch, V vocabulary.
"""

from collections.abc import Mapping
from dataclasses import replace

from gemwright.checkpoints.errors import CheckpointError
from gemwright.checkpoints.hf_values import vocabulary
from gemwright.checkpoints.orbax import (
    EMBEDDING,
    FlaxTensors,
    FlaxWeight,
    Place,
    layer_count,
    match_places,
    tensor_shape,
)
from gemwright.models import gemma, gemma3

Config = gemma.Config | gemma3.Config

_WINDOW = 512
"""Of a Gemma 3 whose sizes are no preset's, as the smaller ones have it: it is in no tensor."""

_OF_PICTURES = r"SigLiPFromPatches_|embedder/mm_"
"""Tensors of a Gemma 3 that also sees, whose text alone is read."""

_PLAIN = {
    "embedding": Place(EMBEDDING),
    "final_norm": Place("final_norm/scale"),
    "layers.*.attention_norm": Place("layer_*/pre_attention_norm/scale"),
    "layers.*.attention_post_norm": Place("layer_*/post_attention_norm/scale"),
    "layers.*.mlp_norm": Place("layer_*/pre_ffw_norm/scale"),
    "layers.*.mlp_post_norm": Place("layer_*/post_ffw_norm/scale"),
    "layers.*.attention.query_norm": Place("layer_*/attn/_query_norm/scale"),
    "layers.*.attention.key_norm": Place("layer_*/attn/_key_norm/scale"),
}
_OUTPUTS = {
    "layers.*.attention.output": Place("layer_*/attn/attn_vec_einsum", order=(2, 0, 1)),  # (H, K, D)
    "layers.*.mlp.down": Place("layer_*/mlp/linear", order=(1, 0)),  # (F, D)
}
_SPLIT_HEADS = {  # more query heads than key heads
    "layers.*.attention.query": Place("layer_*/attn/q_einsum", order=(0, 2, 1)),  # (H, D, K)
    "layers.*.attention.key": Place("layer_*/attn/kv_einsum", 0, (0, 2, 1)),  # (2, G, D, K)
    "layers.*.attention.value": Place("layer_*/attn/kv_einsum", 1, (0, 2, 1)),
}
_JOINED_HEADS = {  # as many
    f"layers.*.attention.{name}": Place("layer_*/attn/qkv_einsum", part, (0, 2, 1))  # (3, H, D, K)
    for part, name in enumerate(("query", "key", "value"))
}
_GATE_IN_OUT = {  # (2, D, F)
    f"layers.*.mlp.{name}": Place("layer_*/mlp/gating_einsum", part, (1, 0)) for part, name in enumerate(("gate", "up"))
}
_GATE_OUT_IN = {  # (2, F, D), the releases of Gemma 2 9B and 27B, and of Gemma 3
    f"layers.*.mlp.{name}": Place("layer_*/mlp/gating_einsum", part) for part, name in enumerate(("gate", "up"))
}


def match_gemma(tensors: FlaxTensors) -> tuple[Config, dict[str, FlaxWeight]]:
    """The model's constants, and the place of each of its weights.

    Raises:
      CheckpointError: if the tensors are not those of a Gemma 1, 2 or 3.
    """
    config = _config(tensors)
    return config, match_places(tensors, config, _places(tensors, config), _OF_PICTURES)


def _places(tensors: FlaxTensors, config: Config) -> dict[str, Place]:
    joined = "layer_0/attn/qkv_einsum" in tensors.shapes
    gating, width = tensor_shape(tensors, "layer_0/mlp/gating_einsum", 3), (config.embed_dim, config.mlp_dim)
    if width[0] == width[1]:
        raise CheckpointError(f"{tensors.folder}: a model whose MLP is as wide as its embedding can be read two ways")
    gate = _GATE_OUT_IN if gating[1:] == width[::-1] else _GATE_IN_OUT
    return {**_PLAIN, **_OUTPUTS, **(_JOINED_HEADS if joined else _SPLIT_HEADS), **gate}


def _config(tensors: FlaxTensors) -> Config:
    return constants_of(_family(tensors), _sizes(tensors))


def constants_of(family: str, sizes: Mapping[str, int]) -> Config:
    """The constants of a model of these sizes: what they do not tell is the preset's of the same, whatever its rows."""
    for preset in (*gemma.PRESETS.values(), *gemma3.PRESETS.values()):
        model = replace(preset, vocab_size=sizes["vocab_size"])
        if model.family == family and all(getattr(model, name) == size for name, size in sizes.items()):
            return model
    if family == gemma3.FAMILY:
        return gemma3.gemma3(_WINDOW, **sizes)
    return gemma.gemma2(**sizes) if family == "gemma2" else gemma.gemma1(**sizes)


def _family(tensors: FlaxTensors) -> str:
    if "layer_0/attn/_query_norm/scale" in tensors.shapes:
        return gemma3.FAMILY
    return "gemma2" if "layer_0/post_attention_norm/scale" in tensors.shapes else "gemma"


def _sizes(tensors: FlaxTensors) -> dict[str, int]:
    rows, embed_dim = tensor_shape(tensors, EMBEDDING, 2)
    heads, head_dim, _ = tensor_shape(tensors, "layer_0/attn/attn_vec_einsum", 3)
    joined = "layer_0/attn/qkv_einsum" in tensors.shapes
    return {
        "vocab_size": vocabulary(rows),
        "embed_dim": embed_dim,
        "num_layers": layer_count(tensors, "layer_"),
        "num_heads": heads,
        "num_kv_heads": heads if joined else tensor_shape(tensors, "layer_0/attn/kv_einsum", 4)[1],
        "head_dim": head_dim,
        "mlp_dim": tensor_shape(tensors, "layer_0/mlp/linear", 2)[0],
    }
