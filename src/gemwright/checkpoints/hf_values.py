"""Values of a `config.json`, checked as they are read."""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from gemwright.checkpoints.errors import CheckpointError

TANH_GELU = "gelu_pytorch_tanh"

Accepted = Mapping[str, tuple[tuple[Any, ...], str]]
"""Keys with the values that can be computed, and why no others."""

_ACCEPTED: Accepted = {
    "attention_bias": ((None, False), "Gemma's attention has no biases"),
    "tie_word_embeddings": ((None, True), "Gemma's head is its embedding; tie them before saving"),
    "use_bidirectional_attention": ((None, False), "only causal attention is computed"),
    "rope_scaling": ((None,), "scaled rotary embeddings are not computed for this family"),
    "hidden_activation": ((None, TANH_GELU), "Gemma's activation is GELU by tanh; correct the file if it means that"),
}
"""Those of every family."""

_PADDED_ROWS = {256_128: 256_000, 257_216: 257_152, 262_208: 262_144}
"""Embedding rows of padded checkpoints, and those that are pieces: the rest must never be sampled.

Google's Flax checkpoints of Gemma 1 and 2, and files made from them, have 256,128
(google-research/big_vision `models/ppp/gemma.py` deletes the same rows)."""

SIZES = {
    "vocab_size": "vocab_size",
    "embed_dim": "hidden_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "num_kv_heads": "num_key_value_heads",
    "head_dim": "head_dim",
    "mlp_dim": "intermediate_size",
    "max_positions": "max_position_embeddings",
}
"""Our integer constants, and their names in files of Gemma 1, 2 and 3."""


def vocabulary(rows: int) -> int:
    """The vocabulary of an embedding with so many rows, padding left out."""
    return _PADDED_ROWS.get(rows, rows)


def check_computable(values: Mapping[str, Any], accepted: Accepted) -> None:
    """Raises ValueError if a key has a value that no family computes, or one that `accepted` does not name."""
    for key, (known, reason) in {**_ACCEPTED, **accepted}.items():
        if values.get(key) not in known:
            raise ValueError(f"{key}: expected {_either(known)}, found {values[key]!r}: {reason}")


def _either(values: tuple[Any, ...]) -> str:
    return " or ".join("none" if value is None else json.dumps(value) for value in values)


def constants_of(values: Mapping[str, Any], sizes: Mapping[str, str]) -> dict[str, Any]:
    """Sizes and numbers that are said alike for every family, by our names.

    Args:
      sizes: our integer constants, and their names in the file.
    """
    constants: dict[str, Any] = {ours: positive_int(values, theirs) for ours, theirs in sizes.items()}
    constants["vocab_size"] = vocabulary(constants["vocab_size"])
    constants["norm_epsilon"] = positive(values, "rms_norm_eps", 1e-6)
    return constants


def positive_int(values: Mapping[str, Any], key: str) -> int:
    """Raises ValueError with the key and what was found, as the others here."""
    value = values.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{key}: expected a positive integer, found {value!r}")
    return value


def positive(values: Mapping[str, Any], key: str, default: float | None = None) -> float:
    """A number above zero."""
    value = values.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 < value < float("inf"):
        raise ValueError(f"{key}: expected a positive number, found {value!r}")
    return value


def cap(values: Mapping[str, Any], key: str) -> float | None:
    """A soft cap; null is none."""
    return None if values.get(key) is None else float(positive(values, key))


def rope_base(values: Mapping[str, Any], share: float | None = None) -> float:
    """The base of rotary embedding.

    Args:
      share: of a head that is rotated, where files may say it.
    """
    rope = values.get("rope_parameters") or {}
    known = {"rope_theta": None, "rope_type": ("default",), "partial_rotary_factor": (share,)}
    if not isinstance(rope, dict) or not all(
        key in known and (known[key] is None or value in known[key]) for key, value in rope.items()
    ):
        raise ValueError(f"rope_parameters: expected rope_type 'default' with rope_theta alone, found {rope!r}")
    return float(positive({**values, **rope}, "rope_theta", 10_000.0))


def windows_of(values: Mapping[str, Any], layers: int, period: int) -> tuple[int | None, ...]:
    """What each layer sees, as the shortest pattern; the family's own where it fits.

    Args:
      period: of the family: each layer at its end sees everything.
    """
    types = _layer_types(values, layers, period)
    window = positive_int(values, "sliding_window") if "sliding_attention" in types else None
    windows = [window if kind == "sliding_attention" else None for kind in types]
    patterns = [(*(window,) * (period - 1), None)] if window else []
    patterns += [tuple(windows[:length]) for length in range(1, layers + 1)]
    return next(p for p in patterns if all(seen == p[layer % len(p)] for layer, seen in enumerate(windows)))


def _layer_types(values: Mapping[str, Any], layers: int, period: int) -> list[str]:
    """As the file says, else by its period, else by the family's."""
    types = values.get("layer_types")
    said: Any = values.get("sliding_window_pattern", values.get("_sliding_window_pattern"))
    if types is None:
        said = said or period
        if not isinstance(said, int) or said < 1:
            raise ValueError(f"sliding_window_pattern: expected a positive integer, found {said!r}")
        return ["full_attention" if (layer + 1) % said == 0 else "sliding_attention" for layer in range(layers)]
    if not isinstance(types, list) or len(types) != layers:
        found = len(types) if isinstance(types, list) else repr(types)
        raise ValueError(f"layer_types: expected one for each of {layers} layers, found {found}")
    for kind in types:
        if kind not in ("sliding_attention", "full_attention"):
            raise ValueError(f"layer_types: expected sliding_attention or full_attention, found {kind!r}")
    return types


def kinds_of(windows: Iterable[int | None]) -> list[str]:
    """`layer_types` for what each layer sees."""
    return ["full_attention" if window is None else "sliding_attention" for window in windows]


def query_scalar(query_scale: float) -> int:
    """144 for 144**-0.5: transformers accepts an integer alone."""
    scalar = round(query_scale**-2)
    if abs(scalar**-0.5 - query_scale) > 1e-6 * query_scale:
        raise CheckpointError(f"query_scale {query_scale}: Hugging Face files say it as n**-0.5 with an integer n")
    return scalar
