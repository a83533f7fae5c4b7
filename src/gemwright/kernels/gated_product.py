"""The gated half of an MLP in one call: gelu of the product with one packed matrix, times the product with another."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.kernels import native
from gemwright.kernels.packed_product import Matrix, check, rounded, wide_products


@partial(jax.custom_jvp, nondiff_argnums=(3, 4))
def gated_product(rows: jax.Array, gate: Matrix, up: Matrix, outs: int, many: bool = False) -> jax.Array:
    """gelu(rows x gate) * (rows x up), gelu by its tanh; on the CPU by the native kernel where there is one.

    The derivative is that with the unpacked matrices, as of `packed_products`.

    Args:
      rows: (n, in) float32 or bfloat16, rounded once to 8 bits a value with a scale for 32 of them.
      gate, up: of 4 or 8 bits each, with `outs` rows.
      many: as in `packed_products`.

    Returns:
      (n, outs) in the dtype of `rows`; rounded to it once, at the end.

    Raises:
      TypeError: shapes or types do not fit.
    """
    for codes, scales in (gate, up):
        check(rows, codes, scales, outs)
    return jax.lax.platform_dependent(
        rows,
        gate,
        up,
        cpu=partial(_on_cpu, outs=outs, many=many),
        default=partial(gated_product_reference, outs=outs),
    )


def gated_product_reference(rows: jax.Array, gate: Matrix, up: Matrix, outs: int) -> jax.Array:
    """The same in plain JAX."""
    return _wide_gated(rounded(rows), gate, up, outs).astype(rows.dtype)


def _on_cpu(rows: jax.Array, gate: Matrix, up: Matrix, outs: int, many: bool) -> jax.Array:
    if not native.available():
        return gated_product_reference(rows, gate, up, outs)
    result = [jax.ShapeDtypeStruct((rows.shape[0], outs), rows.dtype)]
    call = jax.ffi.ffi_call(native.PACKED_PRODUCT, result, vmap_method="sequential")
    return call(rows, *gate, *up, level=native.choice(), gated=True, many=many)[0]


def _wide_gated(rows: jax.Array, gate: Matrix, up: Matrix, outs: int) -> jax.Array:
    gates, ups = wide_products(rows.astype(jnp.float32), (gate, up), (outs, outs), jnp.dtype(jnp.float32))
    return jax.nn.gelu(gates, approximate=True) * ups


@gated_product.defjvp
def _derivative(
    outs: int, many: bool, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[jax.Array, jax.Array]:
    rows, gate, up = primals
    _, tangent = jax.jvp(lambda rows: _wide_gated(rows, gate, up, outs).astype(rows.dtype), (rows,), tangents[:1])
    return gated_product(rows, gate, up, outs, many), tangent
