"""A weight of 4 or 8 bits in rows, as it is stored, sharded, converted and adapted.

The kernel's layout of the same codes is `core/packed.py`.
"""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import Spec, map_specs
from gemwright.core.quantise import quantise
from gemwright.kernels.packed_product import GROUP

T = TypeVar("T")

_VALUES = 1 << 26  # of a matrix made at once
_FEW = 8  # rows: for more, a matrix of values is written, and multiplied by the device's own products


@partial(jax.tree_util.register_dataclass, data_fields=["codes", "scales"], meta_fields=["shape", "dtype"])
@dataclass(frozen=True)
class IntWeight:
    """A quantised matrix, rows one after the other: Int8 or Int4 by the type of its codes.

    Activations are not rounded; gradients flow to them alone.

    Attributes:
      codes: (out, groups, 32) int8, or (out, groups, 16) uint8 with two in a byte: the first in the low half, 8 added.
      scales: (out, groups) float16.
      shape: that of the weight it stands for.
      dtype: of the values.
    """

    codes: jax.Array
    scales: jax.Array
    shape: tuple[int, ...]
    dtype: jnp.dtype

    @property
    def bits(self) -> int:
        return 8 * self.codes.shape[-1] // GROUP

    @staticmethod
    def specs(spec: Spec, bits: int, dtype: Any = jnp.bfloat16) -> Any:
        """The declarations of a weight's parts: shardings and shapes follow from them as from any others."""
        outs, groups = spec.size // spec.fan_in, -(-spec.fan_in // GROUP)
        axes = (spec.axes[0], spec.axes[len(spec.axes) - spec.inputs])
        codes = Spec((outs, groups, GROUP * bits // 8), (*axes, "group"))
        return IntWeight(codes, Spec((outs, groups), axes), spec.shape, jnp.dtype(dtype))  # pyright: ignore[reportArgumentType]


def to_int(weight: jax.Array, spec: Spec, bits: int, importance: np.ndarray[Any, Any] | None = None) -> IntWeight:
    """Quantise a dense weight; arguments and errors are those of `quantise`."""
    codes, scales = quantise(np.asarray(weight).reshape(-1, spec.fan_in), bits, importance)
    if bits == 4:
        halves = (codes + np.int8(8)).view(np.uint8)
        codes = halves[..., ::2] | (halves[..., 1::2] << 4)
    return IntWeight(jnp.asarray(codes), jnp.asarray(scales), spec.shape, weight.dtype)


def int_weights(specs: T, weights: T, bits: int) -> T:
    """A model with its matrices quantised in rows; norms stay as they are.

    Raises:
      ValueError: as `quantise` does; names the weight.
    """

    def to_int_named(name: str, spec: Spec, weight: Any) -> Any:
        try:
            return to_int(weight, spec, bits) if spec.is_matrix else weight
        except ValueError as error:
            raise ValueError(f"weight {name}: {error}") from None

    return map_specs(to_int_named, specs, weights)


def signed_codes(weight: IntWeight) -> jax.Array:
    """(out, groups, 32) int8, whatever the bits."""
    if weight.bits == 8:
        return weight.codes
    halves = jnp.stack([weight.codes & 15, weight.codes >> 4], axis=-1)
    return (halves.astype(jnp.int8) - jnp.int8(8)).reshape(*weight.scales.shape, GROUP)


def to_dense(weight: IntWeight) -> jax.Array:
    """The values, in the weight's shape and dtype."""
    return _values(weight).reshape(weight.shape).astype(weight.dtype)


def int_rows(weight: IntWeight, index: jax.Array) -> jax.Array:
    """(..., in): the rows of an (out, in) weight at each of the (...) indices, in its dtype."""
    rows = IntWeight(weight.codes[index], weight.scales[index], (*index.shape, weight.shape[1]), weight.dtype)
    return to_dense(rows)


def int_product(rows: jax.Array, weight: IntWeight) -> jax.Array:
    """(n, in) x (out, in) -> (n, out) in float32."""
    if len(rows) <= _FEW:
        return jax.lax.platform_dependent(rows, weight, cpu=_whole_product, default=few_rows_product)
    return _whole_product(rows, weight)


def few_rows_product(rows: jax.Array, weight: IntWeight) -> jax.Array:
    """The same as sums of products: XLA on a GPU reads the codes and writes no matrix of their values."""
    n, groups = len(rows), weight.scales.shape[-1]
    wide = jnp.pad(rows.astype(jnp.float32), ((0, 0), (0, groups * GROUP - rows.shape[1]))).reshape(n, groups, GROUP)
    codes, scales = signed_codes(weight).astype(jnp.float32), weight.scales.astype(jnp.float32)
    scales = jax.lax.stop_gradient(scales)
    return jnp.stack([jnp.sum(codes * scales[..., None] * row, axis=(1, 2)) for row in wide])


@jax.custom_vjp
def _whole_product(rows: jax.Array, weight: IntWeight) -> jax.Array:
    def one(part: IntWeight) -> jax.Array:
        after, values = _made_for(rows, part, rows.dtype)
        return jnp.einsum("ni,oi->no", after, values, preferred_element_type=jnp.float32)

    count = _count_parts(weight)
    if count == 1:
        return one(weight)
    return jnp.moveaxis(jax.lax.map(one, _in_parts(weight, count)), 0, 1).reshape(len(rows), -1)


def _forward(rows: jax.Array, weight: IntWeight) -> tuple[jax.Array, Any]:
    return _whole_product(rows, weight), (weight, rows[:0])


def _backward(kept: Any, gradient: jax.Array) -> tuple[jax.Array, None]:
    weight, like = kept
    gradient, count = gradient.astype(like.dtype), _count_parts(weight)

    def one(gradient: jax.Array, part: IntWeight) -> jax.Array:
        after, values = _made_for(gradient, part, like.dtype)
        return jnp.einsum("no,oi->ni", after, values, preferred_element_type=jnp.float32)

    def add(total: jax.Array, part: tuple[jax.Array, IntWeight]) -> tuple[jax.Array, None]:
        return total + one(*part), None

    if count == 1:
        return one(gradient, weight).astype(like.dtype), None
    apart = jnp.moveaxis(gradient.reshape(len(gradient), count, -1), 1, 0)
    total = jnp.zeros((len(gradient), like.shape[1]))
    return jax.lax.scan(add, total, (apart, _in_parts(weight, count)))[0].astype(like.dtype), None


def _count_parts(weight: IntWeight) -> int:
    """In how many parts a product takes a matrix, so that of a table of tokens not all values are there at once."""
    outs, groups = math.prod(weight.scales.shape[:-1]), weight.scales.shape[-1]
    wanted = max(1, -(-outs * groups * GROUP // _VALUES))
    return next((count for count in range(wanted, 4 * wanted) if outs % count == 0), 1)


def _in_parts(weight: IntWeight, count: int) -> IntWeight:
    """So many matrices of a part of the rows each, stacked."""
    codes = weight.codes.reshape(count, -1, *weight.codes.shape[-2:])
    scales = weight.scales.reshape(count, -1, weight.scales.shape[-1])
    ins = math.prod(weight.shape) // len(weight.scales)
    return IntWeight(codes, scales, (codes.shape[1], ins), weight.dtype)


def _made_for(rows: jax.Array, weight: IntWeight, dtype: jnp.dtype) -> tuple[jax.Array, jax.Array]:
    """Rows and the (out, in) values that they are multiplied with, made when the rows are there and not kept.

    Else XLA would make those of all layers at once, or keep them from the forward pass for the backward one.
    """
    rows, weight = jax.lax.optimization_barrier((rows, weight))
    return rows, jax.lax.optimization_barrier(_values(weight).astype(dtype))


_whole_product.defvjp(_forward, _backward)


def _values(weight: IntWeight) -> jax.Array:
    """(out, in) float32."""
    outs, inputs = math.prod(weight.scales.shape[:-1]), weight.scales.shape[-1] * GROUP
    ins = math.prod(weight.shape) // max(1, outs)
    wide = signed_codes(weight).astype(jnp.float32) * weight.scales[..., None].astype(jnp.float32)
    return wide.reshape(outs, inputs)[:, :ins]
