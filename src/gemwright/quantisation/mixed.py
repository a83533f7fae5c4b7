"""Which weights get 8 bits when not all can: those without which the model's guesses change most, byte for byte."""

from collections.abc import Callable, Collection, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import Spec, map_specs, named_leaves, named_weights
from gemwright.core.packed import Packed
from gemwright.kernels.packed_product import unpack
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.quantisation.compare import distances, hidden_states

Array = np.ndarray[Any, Any]


def sensitivities(
    weights: Decoder,
    packed: Decoder,
    config: Config,
    rows: Array,
    progress: Callable[[int, int], None] | None = None,
    among: Collection[str] | None = None,
) -> dict[str, float]:
    """For each matrix, the divergence of the guesses if it alone is quantised, in nats a token.

    Args:
      weights: dense.
      packed: the same with all matrices of few bits.
      rows: (rows, tokens) of ids.
      progress: told the weights done and all.
      among: the matrices to try, by name; None tries all.
    """
    specs = specs_of(config)
    named = named_weights(specs, packed)
    found = {name: weight for name, weight in named.items() if isinstance(weight, Packed)}
    found = {name: weight for name, weight in found.items() if among is None or name in among}
    exact = _wide_embedding(specs, weights)
    texts = [jnp.asarray(row[None]) for row in rows]
    references = [hidden_states(exact, tokens, config) for tokens in texts]
    result: dict[str, float] = {}
    for name, weight in found.items():
        changed = _with(exact, specs, name, weight)
        total = sum(
            distances(exact, hidden, changed, hidden_states(changed, tokens, config), tokens, config)[0]
            for tokens, hidden in zip(texts, references, strict=True)
        )
        result[name] = float(total) / (rows.size - len(rows))
        if progress:
            progress(len(result), len(found))
    return result


def check_average(bits_per_weight: float) -> None:
    """Raises ValueError if no mixture of 4 and 8 bits has this average."""
    if not 4.5 <= bits_per_weight <= 8.5:
        raise ValueError(f"bits per weight: expected 4.5 to 8.5, scales included, found {bits_per_weight}")


def choose_bits(config: Config, sensitivity: Mapping[str, float], bits_per_weight: float) -> dict[str, int]:
    """Bits by name: all 4, and 8 in the order of divergence spared a byte, as far as the average allows.

    Args:
      bits_per_weight: average over the matrices, scales included: 4.5 is all of 4 bits, 8.5 all of 8.

    Raises:
      ValueError: if the average is less than 4.5 or above 8.5.
    """
    check_average(bits_per_weight)
    specs: dict[str, Spec] = named_leaves(specs_of(config))
    sizes = {name: stored_bytes(specs[name], 4) for name in sensitivity}
    larger = {name: stored_bytes(specs[name], 8) - size for name, size in sizes.items()}
    room = bits_per_weight / 8 * sum(specs[name].size for name in sensitivity) - sum(sizes.values())
    bits = dict.fromkeys(sensitivity, 4)
    for name in sorted(sensitivity, key=lambda name: sensitivity[name] / larger[name], reverse=True):
        if larger[name] <= room:
            bits[name], room = 8, room - larger[name]
    return bits


def stored_bytes(spec: Spec, bits: int) -> int:
    """Of a packed weight, scales included."""
    parts = Packed.specs(spec, bits)
    return parts.codes.size + 2 * parts.scales.size


def _wide_embedding(specs: Decoder, weights: Decoder) -> Decoder:
    """The same model computing in float32: rounding to bfloat16 would hide the small divergences."""

    def widen(name: str, _: Spec, weight: jax.Array) -> jax.Array:
        return weight.astype(jnp.float32) if name.endswith("embedding") else weight

    return map_specs(widen, specs, weights)


def _with(weights: Decoder, specs: Decoder, name: str, packed: Packed) -> Decoder:
    """One weight replaced by the values of its codes, dense: the program stays the same."""

    def choose(each: str, spec: Spec, weight: jax.Array) -> jax.Array:
        if each != name:
            return weight
        values = unpack(packed.codes, packed.scales, spec.size // spec.fan_in, spec.fan_in)
        return values.reshape(spec.shape).astype(weight.dtype)

    return map_specs(choose, specs, weights)
