"""A weight of 4 or 8 bits, packed for the CPU's kernel, and how values become codes.

Each 32 inputs of an output share a float16 scale: 4.5 and 8.5 bits a weight.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import Spec, is_spec
from gemwright.kernels.packed_product import GROUP, pack

Array = np.ndarray[Any, Any]
T = TypeVar("T")

_SHRINKS = np.linspace(0.75, 1.05, 13, dtype=np.float32)  # of the scale at which no code is cut off
_ROWS = 1024  # quantised at once: bounds the memory that trying scales takes


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


def pack_weights(specs: T, weights: T, bits: int) -> T:
    """A model with its matrices packed; norms stay as they are.

    Raises:
      ValueError: if bits is not 4 or 8, or a weight holds NaN or infinity; names it.
    """

    def pack_one(path: Any, spec: Spec, weight: jax.Array) -> Any:
        if len(spec.shape) < 2:
            return weight
        try:
            return pack_weight(weight, spec, bits)
        except ValueError as error:
            name = jax.tree_util.keystr(path, simple=True, separator=".")
            raise ValueError(f"weight {name}: {error}") from None

    return jax.tree_util.tree_map_with_path(pack_one, specs, weights, is_leaf=is_spec)


def pack_weight(weight: jax.Array, spec: Spec, bits: int) -> Packed:
    """Quantise and pack one weight."""
    matrix = np.asarray(weight).reshape(-1, spec.fan_in)
    codes, scales = quantise(matrix, bits)
    packed, packed_scales = pack(codes, scales, bits)
    return Packed(jnp.asarray(packed), jnp.asarray(packed_scales), spec.shape)


def quantise(matrix: Array, bits: int) -> tuple[Array, Array]:
    """Codes and scales of least squared error, found group by group among some scales.

    Args:
      matrix: (out, in) of any float dtype.
      bits: 4 (codes -8 to 7) or 8 (-127 to 127).

    Returns:
      (out, in) int8 and (out, groups) float16; a value is its code times its group's scale.

    Raises:
      ValueError: if bits is another number, or a value is NaN, infinite, or too large for a float16 scale.
    """
    if bits not in (4, 8):
        raise ValueError(f"bits: expected 4 or 8, found {bits}")
    outs, ins = matrix.shape
    parts = [_quantise_rows(rows, bits) for rows in _wide_rows(matrix)]
    codes = np.concatenate([part[0] for part in parts]).reshape(outs, -1)[:, :ins]
    return codes, np.concatenate([part[1] for part in parts])


def _wide_rows(matrix: Array) -> Iterator[Array]:
    """(rows, groups, 32) float32, some rows at a time."""
    outs, ins = matrix.shape
    for start in range(0, outs, _ROWS):
        rows = matrix[start : start + _ROWS].astype(np.float32)
        if not np.isfinite(rows).all() or np.abs(rows).max(initial=0) > 1e5:
            raise ValueError("expected finite values that float16 scales can hold, found NaN, infinity or above 1e5")
        yield np.pad(rows, ((0, 0), (0, -ins % GROUP))).reshape(len(rows), -1, GROUP)


def _quantise_rows(groups: Array, bits: int) -> tuple[Array, Array]:
    if bits == 8:
        return _codes(groups, np.abs(groups).max(axis=-1) / 127, bits)
    # 4-bit codes reach one further down than up: the largest value gets the code -8.
    largest = np.take_along_axis(groups, np.abs(groups).argmax(axis=-1)[..., None], axis=-1)[..., 0]
    best_codes, best_scales = _codes(groups, largest / -8, bits)
    best = _error(groups, best_codes, best_scales)
    for shrink in _SHRINKS:
        codes, scales = _refit(groups, largest / -8 * shrink, bits)
        error = _error(groups, codes, scales)
        better = error < best
        best = np.where(better, error, best)
        best_scales = np.where(better, scales, best_scales)
        best_codes = np.where(better[..., None], codes, best_codes)
    return best_codes, best_scales


def _refit(groups: Array, scales: Array, bits: int) -> tuple[Array, Array]:
    """Codes at a scale, the scale that fits these codes best, and the codes at that."""
    codes = _codes(groups, scales, bits)[0].astype(np.float32)
    norms = np.sum(codes * codes, axis=-1)
    fitted = np.sum(codes * groups, axis=-1) / np.where(norms > 0, norms, 1)
    return _codes(groups, fitted, bits)


def _codes(groups: Array, scales: Array, bits: int) -> tuple[Array, Array]:
    least, most = (-8, 7) if bits == 4 else (-127, 127)
    kept = scales.astype(np.float16)
    wide = kept.astype(np.float32)[..., None]
    inverse = np.divide(1, wide, out=np.zeros_like(wide), where=wide != 0)
    return np.clip(np.rint(groups * inverse), least, most).astype(np.int8), kept


def _error(groups: Array, codes: Array, scales: Array) -> Array:
    return np.sum(np.square(groups - codes * scales.astype(np.float32)[..., None]), axis=-1)
