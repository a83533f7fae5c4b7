"""A weight in its forms, and the one contraction that every product with a weight goes through."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name

from gemwright.core.int_weights import IntWeight, int_product, int_rows
from gemwright.core.lora import Lora, LoraSet, adapted_product, adapted_rows
from gemwright.core.ops import Normed
from gemwright.core.packed import Packed
from gemwright.core.recording import Recording
from gemwright.core.sharding import devices_in_use
from gemwright.kernels import gpu, native
from gemwright.kernels.gated_product import gated_product
from gemwright.kernels.gated_values import gated_values, gated_values_reference
from gemwright.kernels.narrow_product import narrow_product, serves
from gemwright.kernels.packed_product import packed_products, unpack_rows
from gemwright.kernels.row_products import gated_rows, gated_tile, products_tile, row_products
from gemwright.kernels.thin_product import most_rows, thin_product

Bare = jax.Array | IntWeight | Packed
"""Dense or quantised."""

Weight = Bare | Lora | LoraSet | Recording
"""Bare, adapted or watched; dispatched on here and nowhere else."""

PRODUCT = "product"
"""The name of every product for `jax.checkpoint`."""

_FEW = 16  # tokens of one text: a decode step with guesses, or the shortest part of a prompt


def project(x: jax.Array, weight: Weight, inputs: int = 1, plus: jax.Array | None = None) -> jax.Array:
    """Contract the last `inputs` dimensions of `x` with those of `weight`.

    Args:
      x: (..., *in).
      weight: (*out, *in), the row-major layout of Hugging Face checkpoints.
      inputs: how many dimensions `in` has.
      plus: (..., *out), to which the product is added.

    Returns:
      (..., *out), in the dtype of `x`; sums are float32.
    """
    found = _few_products(x, (weight,), inputs, plus)
    if found is not None:
        return found[0]
    product = project_each(x, (weight,), inputs)[0]
    return product if plus is None else plus + product


def project_each(x: jax.Array | Normed, weights: Sequence[Weight], inputs: int = 1) -> tuple[jax.Array, ...]:
    """`project` by several weights; packed ones in one pass, which rounds `x` once for all."""
    found = _few_products(x, weights, inputs, None)
    if found is not None:
        return found
    x = value_of(x)
    batch, ins = x.shape[: x.ndim - inputs], x.shape[x.ndim - inputs :]
    rows = x.reshape(math.prod(batch), math.prod(ins))
    noted = [_noted(rows, weight) for weight in weights]
    shapes = [weight.shape[: len(weight.shape) - inputs] for weight in noted]
    products = _adapted_products(rows, noted, tuple(math.prod(shape) for shape in shapes), _reads_text(batch))
    # Named, so that training can keep these and compute what lies between them again.
    named = [checkpoint_name(product, PRODUCT) for product in products]
    return tuple(product.reshape(*batch, *shape) for product, shape in zip(named, shapes, strict=True))


def _reads_text(batch: Sequence[int]) -> bool:
    """Whether (batch, tokens) rows are of longer texts, not of decode steps.

    However many texts are decoded together, one arithmetic serves them, so that a guess is checked as it is chosen.
    """
    return len(batch) > 1 and batch[-1] > _FEW


def _adapted_products(
    rows: jax.Array, weights: Sequence[Bare | Lora | LoraSet], outs: tuple[int, ...], many: bool
) -> list[Any]:
    """For each weight (n, out): the bases' products, and what is changed about them."""
    bases = [weight.base if isinstance(weight, Lora | LoraSet) else weight for weight in weights]
    products = list(_bare_products(rows, bases, outs, many))
    for place, (weight, base, out) in enumerate(zip(weights, bases, outs, strict=True)):
        if isinstance(weight, Lora | LoraSet):
            again = partial(_product, weight=base, outs=out, many=many)
            products[place] = adapted_product(rows, weight, products[place], again)
    return products


def _bare_products(rows: jax.Array, weights: Sequence[Bare], outs: tuple[int, ...], many: bool) -> Sequence[jax.Array]:
    packed = [(weight.codes, weight.scales) for weight in weights if isinstance(weight, Packed)]
    if len(packed) == len(weights):
        return _packed_products(rows, tuple(packed), outs, many)
    return [_product(rows, weight, out, many) for weight, out in zip(weights, outs, strict=True)]


def value_of(x: jax.Array | Normed) -> jax.Array:
    return x.value() if isinstance(x, Normed) else x


def _few_products(
    x: jax.Array | Normed, weights: Sequence[Weight], inputs: int, plus: jax.Array | None
) -> tuple[jax.Array, ...] | None:
    """Products of few rows by one kernel of a GPU, where it takes them."""
    before, gain, epsilon = _apart(x)
    batch, ins = before.shape[: before.ndim - inputs], before.shape[before.ndim - inputs :]
    rows, width = math.prod(batch), math.prod(ins)
    matrices = _few_on_gpu(rows, before, weights, width)
    if matrices is None or products_tile(rows, [len(matrix) for matrix in matrices], width) is None:
        return None
    flat = None if plus is None else plus.reshape(rows, -1)
    products = _row_products(before.reshape(rows, -1), matrices, gain, flat, epsilon)
    shapes = [weight.shape[: len(weight.shape) - inputs] for weight in weights]
    return tuple(product.reshape(*batch, *shape) for product, shape in zip(products, shapes, strict=True))


def _few_gated(x: jax.Array | Normed, gate: Weight, up: Weight) -> jax.Array | None:
    """`project_gated` of few rows by a kernel of a GPU, where it takes them."""
    before, gain, epsilon = _apart(x)
    *batch, ins = before.shape
    matrices = _few_on_gpu(math.prod(batch), before, (gate, up), ins)
    if matrices is None or gated_tile(math.prod(batch), len(matrices[0]), ins) is None:
        return None
    mixed = _gated_rows(before.reshape(-1, ins), *matrices, gain, epsilon)
    return mixed.reshape(*batch, len(matrices[0]))


def _apart(x: jax.Array | Normed) -> tuple[jax.Array, jax.Array | None, float]:
    return x if isinstance(x, Normed) else (x, None, 0.0)


def _few_on_gpu(rows: int, x: jax.Array, weights: Sequence[Weight], ins: int) -> tuple[jax.Array, ...] | None:
    """The weights as matrices, where kernels for a GPU take them and so few rows."""
    if rows > gpu.MOST_ROWS or not gpu.available():
        return None
    dense = [weight.reshape(-1, ins) for weight in weights if isinstance(weight, jax.Array)]
    kinds = {jnp.dtype(part.dtype) for part in (x, *dense)}
    return tuple(dense) if len(dense) == len(weights) and kinds == {jnp.dtype(jnp.bfloat16)} else None


def project_gated(x: jax.Array | Normed, gate: Weight, up: Weight) -> jax.Array:
    """gelu of `project` by one weight, times that by another; packed ones in one call."""
    found = _few_gated(x, gate, up)
    if found is not None:
        return found
    x = value_of(x)
    if isinstance(gate, Packed) and isinstance(up, Packed):
        rows, outs = x.reshape(-1, x.shape[-1]), gate.shape[0]
        many = _reads_text(x.shape[:-1])
        mixed = _gated_product(rows, (gate.codes, gate.scales), (up.codes, up.scales), outs, many)
        return mixed.reshape(*x.shape[:-1], outs)
    # The kernel of two packed ones rounds its result alone; beside changes it must be no other.
    wide = x.astype(jnp.float32) if any(_is_on_packed(weight) for weight in (gate, up)) else x
    gates, ups = project_each(wide, (gate, up))
    return gated(gates, ups).astype(x.dtype)


def gated(gates: jax.Array, ups: jax.Array) -> jax.Array:
    """gelu(gates) * ups, gelu by its tanh, in float32 and rounded once, by the kernel where there is one."""
    if native.serves(gates) and devices_in_use() == 1:
        return gated_values(gates, ups)
    return gated_values_reference(gates, ups)


def _is_on_packed(weight: Weight) -> bool:
    return isinstance(weight, Lora | LoraSet) and isinstance(weight.base, Packed)


def _noted(rows: jax.Array, weight: Weight) -> Bare | Lora | LoraSet:
    """The weight to compute with, once a watched one has noted what it meets."""
    if not isinstance(weight, Recording):
        return weight
    weight.note(rows)
    return weight.weight


# Programs of their own, so that layers alike are traced once.
_packed_products = jax.jit(packed_products, static_argnums=(2, 3))
_gated_product = jax.jit(gated_product, static_argnums=(3, 4))
_row_products = jax.jit(row_products, static_argnums=4)
_gated_rows = jax.jit(gated_rows, static_argnums=4)


@partial(jax.jit, static_argnames=("outs", "many"))
def _product(rows: jax.Array, weight: Bare, outs: int, many: bool) -> jax.Array:
    """(n, in) -> (n, out) by one weight, in the dtype of the rows."""
    if isinstance(weight, Packed):
        return packed_products(rows, ((weight.codes, weight.scales),), (outs,), many)[0]
    if isinstance(weight, IntWeight):
        return int_product(rows, weight).astype(rows.dtype)
    return _matmul(rows, weight.reshape(outs, rows.shape[1])).astype(rows.dtype)


def lookup(weight: Weight, index: jax.Array) -> jax.Array:
    """(..., in) rows of an (out, in) weight, in its dtype."""
    if isinstance(weight, Packed):
        return unpack_rows(weight.codes, weight.scales, index, weight.shape[1]).astype(weight.dtype)
    if isinstance(weight, IntWeight):
        return int_rows(weight, index)
    if isinstance(weight, Recording):
        return lookup(weight.weight, index)
    if isinstance(weight, Lora | LoraSet):
        return adapted_rows(index, weight, lookup(weight.base, index))
    return weight[index]


def _matmul(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """(n, in) x (out, in) -> (n, out), summed in float32."""
    if matrix.dtype == jnp.bfloat16 and rows.shape[0] <= most_rows():
        return jax.lax.platform_dependent(rows, matrix, cpu=thin_product, default=_dot)
    matrix = matrix.astype(rows.dtype)
    if rows.dtype == jnp.float32:
        return _dot(rows, matrix)
    if devices_in_use() == 1 and serves(rows, matrix):
        return narrow_product(rows, matrix)
    return _narrow_dot(rows, matrix)


def _dot(rows: jax.Array, matrix: jax.Array, dtype: Any = jnp.float32) -> jax.Array:
    contract_last = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(rows, matrix, contract_last, preferred_element_type=dtype)


def _sums(narrow: Any) -> Any:
    """What products of narrow floats are returned in: float32, to be rounded after.

    A GPU's product sums in float32 and rounds as it writes; two passes over a wide copy of the result are spared.
    """
    return narrow if jax.default_backend() == "gpu" else jnp.float32


@jax.custom_vjp
def _narrow_dot(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """`_dot` of narrow floats. Its derivative would multiply float32 with them, which widens the matrix first."""
    return _dot(rows, matrix, _sums(rows.dtype)).astype(rows.dtype)


def _forward(rows: jax.Array, matrix: jax.Array) -> tuple[jax.Array, Any]:
    return _narrow_dot(rows, matrix), (rows, matrix)


def _backward(kept: Any, gradient: jax.Array) -> tuple[jax.Array, jax.Array]:
    rows, matrix = kept
    narrow = gradient.astype(rows.dtype)
    to_rows = jnp.einsum("no,oi->ni", narrow, matrix, preferred_element_type=_sums(rows.dtype))
    to_matrix = jnp.einsum("no,ni->oi", narrow, rows, preferred_element_type=_sums(rows.dtype))
    return to_rows.astype(rows.dtype), to_matrix.astype(matrix.dtype)


_narrow_dot.defvjp(_forward, _backward)
