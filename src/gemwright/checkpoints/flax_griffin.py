"""RecurrentGemma in Google's Flax releases: which tensor is which weight.

Layout: google-deepmind/recurrentgemma `jax/{griffin,modules,layers}.py`. Kernels there are (in, out) with heads
joined. The window is in no tensor: it is the published one.
"""

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
from gemwright.models.griffin import PRESETS, Config, Kind

_MARK = "blocks.0/channel_pre_norm/scale"


def _kernel(path: str) -> Place:
    return Place(f"{path}/kernel", order=(1, 0), joined=True)


_LINEAR = {
    "recurrence.gate": "recurrent_block/linear_y",
    "recurrence.input": "recurrent_block/linear_x",
    "recurrence.output": "recurrent_block/linear_out",
    "attention.output": "attention_block/proj_final",
    "mlp.down": "mlp_block/ffw_down",
}
"""Products with a bias."""

_LRU = "blocks.*/recurrent_block/rg_lru"

_PLACES = {
    "embedding": Place(EMBEDDING),
    "final_norm": Place("final_norm/scale"),
    "layers.*.mixer_norm": Place("blocks.*/temporal_pre_norm/scale"),
    "layers.*.mlp_norm": Place("blocks.*/channel_pre_norm/scale"),
    **{f"layers.*.{ours}.weight": _kernel(f"blocks.*/{theirs}") for ours, theirs in _LINEAR.items()},
    **{f"layers.*.{ours}.bias": Place(f"blocks.*/{theirs}/bias") for ours, theirs in _LINEAR.items()},
    **{
        f"layers.*.attention.{name}": _kernel(f"blocks.*/attention_block/proj_{name[0]}")
        for name in ("query", "key", "value")
    },
    "layers.*.recurrence.conv_weight": Place("blocks.*/recurrent_block/conv_1d", order=(1, 0), joined=True),  # (C, W)
    "layers.*.recurrence.conv_bias": Place("blocks.*/recurrent_block/conv_1d/b"),
    "layers.*.recurrence.input_gate": Place(f"{_LRU}/input_gate"),
    "layers.*.recurrence.input_gate_bias": Place(f"{_LRU}/input_gate/b"),
    "layers.*.recurrence.decay_gate": Place(f"{_LRU}/a_gate"),
    "layers.*.recurrence.decay_gate_bias": Place(f"{_LRU}/a_gate/b"),
    "layers.*.recurrence.decay": Place(f"{_LRU}/a_param"),
    **{
        f"layers.*.mlp.{name}.weight": Place("blocks.*/mlp_block/ffw_up", part, (1, 0))
        for part, name in enumerate(("gate", "up"))
    },  # (2, D, F)
    **{
        f"layers.*.mlp.{name}.bias": Place("blocks.*/mlp_block/ffw_up/b", part, joined=True)
        for part, name in enumerate(("gate", "up"))
    },
}


def is_griffin(tensors: FlaxTensors) -> bool:
    """Whether the tensors are named as a RecurrentGemma's."""
    return _MARK in tensors.shapes


def match_griffin(tensors: FlaxTensors) -> tuple[Config, dict[str, FlaxWeight]]:
    """The model's constants, and the place of each of its weights.

    Raises:
      CheckpointError: if the tensors are not those of a RecurrentGemma.
    """
    config = _config(tensors)
    return config, match_places(tensors, config, _PLACES, "$")


def _config(tensors: FlaxTensors) -> Config:
    """The constants that shapes tell, and the preset's of the same shapes for those they do not."""
    layers = layer_count(tensors, "blocks.")
    attends = [f"blocks.{layer}/attention_block/proj_k/kernel" in tensors.shapes for layer in range(layers)]
    kinds: list[Kind] = ["attention" if each else "recurrent" for each in attends]
    recurrent, attention = (
        f"blocks.{kinds.index(kind) if kind in kinds else 0}" for kind in ("recurrent", "attention")
    )
    rows, embed_dim = tensor_shape(tensors, EMBEDDING, 2)
    heads = tensor_shape(tensors, f"{recurrent}/recurrent_block/rg_lru/input_gate", 3)[0]
    taps, recurrent_dim = tensor_shape(tensors, f"{recurrent}/recurrent_block/conv_1d", 2)
    head_dim = tensor_shape(tensors, f"{attention}/attention_block/proj_k/kernel", 2)[1]
    found = Config(
        vocab_size=vocabulary(rows),
        embed_dim=embed_dim,
        num_layers=layers,
        num_heads=heads,
        num_kv_heads=1,
        head_dim=head_dim,
        mlp_dim=tensor_shape(tensors, "blocks.0/mlp_block/ffw_up", 3)[2],
        recurrent_dim=recurrent_dim,
        pattern=_shortest(kinds),
        taps=taps,
    )
    return next((preset for preset in PRESETS.values() if preset == found), found)


def _shortest(kinds: list[Kind]) -> tuple[Kind, ...]:
    """The pattern that gives these layers when it is repeated; the family's own where it fits."""
    usual = PRESETS["recurrentgemma-2b"].pattern
    patterns = [usual, *(tuple(kinds[:length]) for length in range(1, len(kinds) + 1))]
    return next(p for p in patterns if all(kind == p[layer % len(p)] for layer, kind in enumerate(kinds)))
