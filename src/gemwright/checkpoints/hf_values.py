"""Values of a `config.json`, checked as they are read."""

import json
from collections.abc import Mapping
from typing import Any

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

_PADDED_ROWS = {256_128: 256_000}
"""Embedding rows of padded checkpoints, and those that are pieces: the rest must never be sampled.

Google's Flax checkpoints of Gemma 1 and 2, and files made from them, have 256,128
(google-research/big_vision `models/ppp/gemma.py` deletes the same rows)."""


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
