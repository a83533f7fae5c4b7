"""Products of bfloat16 matrices with many rows, summed in float32 and rounded once, as training makes them.

Letters: n rows, i inputs, o outputs.
"""

from enum import IntEnum

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.kernels import native

_FEWEST_ROWS = 64
"""With fewer, putting the matrix in order takes longer than is gained."""


class _Form(IntEnum):
    """What is contracted; narrow_product.cc has the same."""

    TO_OUTS = 0
    TO_ROWS = 1
    TO_MATRIX = 2


def serves(rows: jax.Array, matrix: jax.Array) -> bool:
    """Whether the kernel multiplies such arrays here."""
    narrow = rows.dtype == matrix.dtype == jnp.bfloat16
    return narrow and rows.shape[0] >= _FEWEST_ROWS and native.serves(rows) and native.multiplies_bfloat16()


@jax.custom_vjp
def narrow_product(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """(n, i) rows by an (o, i) matrix to (n, o), all bfloat16, by the native kernel where it `serves`."""
    return _product(rows, matrix, _Form.TO_OUTS, (len(rows), len(matrix)))


def narrow_product_reference(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """The same in plain JAX."""
    return jnp.einsum("ni,oi->no", rows, matrix, preferred_element_type=jnp.float32).astype(rows.dtype)


def _product(left: jax.Array, right: jax.Array, form: _Form, shape: tuple[int, ...]) -> jax.Array:
    result = jax.ShapeDtypeStruct(shape, jnp.bfloat16)
    call = jax.ffi.ffi_call(native.NARROW_PRODUCT, result, vmap_method="sequential")
    return call(left, right, form=np.int64(form), level=native.choice())


Pair = tuple[jax.Array, jax.Array]


def _forward(rows: jax.Array, matrix: jax.Array) -> tuple[jax.Array, Pair]:
    return narrow_product(rows, matrix), (rows, matrix)


def _backward(kept: Pair, gradient: jax.Array) -> Pair:
    rows, matrix = kept
    to_rows = _product(gradient, matrix, _Form.TO_ROWS, rows.shape)
    return to_rows, _product(gradient, rows, _Form.TO_MATRIX, matrix.shape)


narrow_product.defvjp(_forward, _backward)
