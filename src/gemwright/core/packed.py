"""A weight of 4 or 8 bits, packed for the CPU's kernel.

Each 32 inputs of an output share a float16 scale: 4.5 and 8.5 bits a weight.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.int_weights import IntWeight, signed_codes, to_int
from gemwright.core.module import Spec, count, map_specs
from gemwright.kernels.packed_product import GROUP, TILE, pack

Array = np.ndarray[Any, Any]
T = TypeVar("T")


@partial(jax.tree_util.register_dataclass, data_fields=["codes", "scales"], meta_fields=["shape"])
@dataclass(frozen=True)
class Packed:
    """A quantised weight in the kernel's layout. It is not trained on and not sharded.

    Attributes:
      codes: (tiles, groups, 256 or 512) uint8.
      scales: (tiles, groups, 16) float16.
      shape: that of the weight it stands for.
    """

    codes: jax.Array
    scales: jax.Array
    shape: tuple[int, ...]

    @property
    def dtype(self) -> jnp.dtype:
        """Of the activations that it is computed with."""
        return jnp.dtype(jnp.bfloat16)

    @property
    def bits(self) -> int:
        return self.codes.shape[-1] // (2 * GROUP)

    @staticmethod
    def specs(spec: Spec, bits: int) -> Any:
        """The declarations of a weight's parts, for the check of a file."""
        tiles, groups = -(-(spec.size // spec.fan_in) // TILE), -(-spec.fan_in // GROUP)
        codes = Spec((tiles, groups, 2 * GROUP * bits), ("tile", "group", "code"))
        return Packed(codes, Spec((tiles, groups, TILE), ("tile", "group", "row")), spec.shape)  # pyright: ignore[reportArgumentType]


def pack_weights(
    specs: T,
    weights: T,
    bits: int | Mapping[str, int],
    importance: Mapping[str, Array] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> T:
    """A model with its matrices packed. What is no matrix of a product stays as it is.

    Args:
      bits: 4 or 8, or by the weight's name.
      importance: by the weight's name, as `quantise` takes it.
      progress: told the parameters done and all, after each weight.

    Raises:
      ValueError: if bits is not 4 or 8, or a weight is packed already or holds NaN or infinity; names it.
    """
    done, total = 0, count(specs)

    def pack_one(name: str, spec: Spec, weight: Any) -> Any:
        nonlocal done
        if spec.is_matrix:
            weight = _pack_named(name, spec, weight, bits if isinstance(bits, int) else bits[name], importance or {})
        done += spec.size
        if progress:
            progress(done, total)
        return weight

    return map_specs(pack_one, specs, weights)


def _pack_named(name: str, spec: Spec, weight: Any, bits: int, importance: Mapping[str, Array]) -> Packed:
    if not isinstance(weight, jax.Array):
        raise ValueError(f"weight {name}: expected a dense one to quantise, found a {type(weight).__name__}")
    try:
        return pack_weight(weight, spec, bits, importance.get(name))
    except ValueError as error:
        raise ValueError(f"weight {name}: {error}") from None


def pack_weight(weight: jax.Array, spec: Spec, bits: int, importance: Array | None = None) -> Packed:
    """Quantise and pack one weight; arguments and errors are those of `quantise`."""
    return to_packed(to_int(weight, spec, bits, importance))


def to_packed(weight: IntWeight) -> Packed:
    """The same codes in the kernel's layout."""
    codes = np.asarray(signed_codes(weight)).reshape(len(weight.codes), -1)
    packed, scales = pack(codes, np.asarray(weight.scales), weight.bits)
    return Packed(jnp.asarray(packed), jnp.asarray(scales), weight.shape)
