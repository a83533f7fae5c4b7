"""The product of a few rows with a bfloat16 matrix, as in decoding: its speed is that of reading the matrix."""

from typing import Any

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero

from gemwright.kernels import native


def most_rows() -> int:
    """Up to how many rows `thin_product` is the fastest product on a CPU.

    The native kernel reads the matrix once for all rows, the reference once for each.
    """
    return 8 if native.available() else 3


@jax.custom_jvp
def thin_product(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """Contract the last dimensions, on the CPU: by the native kernel where there is one.

    The result's dtype, its derivatives of any order and `jax.vmap` do not depend on which runs.

    Args:
      rows: (n, in), of any float dtype; meant for n up to `most_rows()`.
      matrix: (out, in) in bfloat16, row-major.

    Returns:
      (n, out) in float32; products and sums are float32.

    Raises:
      TypeError: the shapes do not fit, or the matrix is not bfloat16.
      ValueError: `GEMWRIGHT_KERNELS` has an unknown value.
    """
    if rows.ndim != 2 or matrix.ndim != 2 or rows.shape[1] != matrix.shape[1] or matrix.dtype != jnp.bfloat16:
        raise TypeError(
            f"thin_product wants (n, in) and a bfloat16 (out, in), not {jax.typeof(rows)} and {jax.typeof(matrix)}"
        )
    return _native(rows, matrix) if native.available() else thin_product_reference(rows, matrix)


def thin_product_reference(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    """The same in plain JAX.

    XLA on the CPU widens a bf16 matrix to float32 before a thin product: twice its size in
    temporaries, and many times slower than a sum of products, which widens in registers.
    """
    outs: list[jax.Array] = []
    for row in rows:
        outs.append(jnp.sum(matrix.astype(jnp.float32) * row.astype(jnp.float32), axis=-1))
        # Else XLA would see the same widening in every row, and do it once, into memory.
        matrix, outs[-1] = jax.lax.optimization_barrier((matrix, outs[-1]))
    return jnp.stack(outs)


def _native(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    result = jax.ShapeDtypeStruct((rows.shape[0], matrix.shape[0]), jnp.float32)
    call = jax.ffi.ffi_call(native.THIN_PRODUCT, result, vmap_method="sequential")
    return call(rows.astype(jnp.float32), matrix, level=native.choice())


def _derivative(primals: tuple[jax.Array, jax.Array], tangents: tuple[Any, Any]) -> tuple[jax.Array, jax.Array]:
    # XLA cannot differentiate a custom call. An input that nothing depends on, such as a frozen
    # matrix, has a symbolic zero: no product is made of it.
    rows, matrix = primals
    row_step, matrix_step = tangents
    out = thin_product(rows, matrix)
    terms = [jnp.zeros_like(out)]
    if not isinstance(row_step, SymbolicZero):
        terms.append(_wide_dot(row_step, matrix))
    if not isinstance(matrix_step, SymbolicZero):
        terms.append(_wide_dot(rows, matrix_step))
    return out, sum(terms[1:], terms[0])


thin_product.defjvp(_derivative, symbolic_zeros=True)


def _wide_dot(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    return jnp.einsum("ni,oi->no", rows.astype(jnp.float32), matrix.astype(jnp.float32))
