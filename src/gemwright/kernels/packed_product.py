"""Products of rows with matrices of 4 or 8 bits a weight, packed as the processor reads them.

Weights have one scale for 32 inputs, as activations have; products within a group are of integers.
The layout (version 1) is described in `packed_tiles.h`: tiles of 16 rows, read from end to end.
"""

import itertools
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.kernels import native

GROUP, TILE = 32, 16
"""Inputs that share a scale; weight rows that are interleaved."""

LAYOUT = 1
"""Version of the packed layout; files say which they hold."""

Array = np.ndarray[Any, Any]


def pack(codes: Array, scales: Array, bits: int) -> tuple[Array, Array]:
    """Put the codes of a matrix in the order in which the kernel reads them.

    Args:
      codes: (out, in) int8, within [-8, 7] for 4 bits, within [-127, 127] for 8.
      scales: (out, groups) float16, for 32 inputs each.

    Returns:
      (tiles, groups, 64 * bits) uint8 and (tiles, groups, 16) float16; rows and inputs that fill
      the last tile and group have scales and codes of zero.

    Raises:
      ValueError: unless bits is 4 or 8 and the codes are in its range.
    """
    least = {4: -8, 8: -127}.get(bits)
    if least is None:
        raise ValueError(f"bits: expected 4 or 8, found {bits}")
    if codes.size and (codes.min() < least or codes.max() > (1 << (bits - 1)) - 1):
        raise ValueError(f"codes: expected {least} to {(1 << (bits - 1)) - 1}, found {codes.min()} to {codes.max()}")
    outs, ins = codes.shape
    tiles, groups = -(-outs // TILE), -(-ins // GROUP)
    whole = np.pad(codes, ((0, tiles * TILE - outs), (0, groups * GROUP - ins)))
    scales = np.pad(scales, ((0, tiles * TILE - outs), (0, 0)))
    packed_scales = scales.reshape(tiles, TILE, groups).transpose(0, 2, 1)
    if bits == 8:
        words = whole.view(np.uint8).reshape(tiles, TILE, groups, 8, 4)
    else:
        halves = (whole + np.int8(8)).view(np.uint8).reshape(tiles, TILE, groups, 2, 4, 4)
        words = halves[:, :, :, 0] | (halves[:, :, :, 1] << 4)
    packed = words.transpose(0, 2, 3, 1, 4).reshape(tiles, groups, -1)
    return np.ascontiguousarray(packed), np.ascontiguousarray(packed_scales)


def unpack(codes: jax.Array, scales: jax.Array, outs: int, ins: int) -> jax.Array:
    """(out, in) float32: the values that packed codes stand for."""
    return unpack_rows(codes, scales, jnp.arange(outs), ins)


def unpack_rows(codes: jax.Array, scales: jax.Array, index: jax.Array, ins: int) -> jax.Array:
    """(..., in) float32: the rows of the matrix at each of the (...) indices."""
    tiles, groups, size = codes.shape
    words = codes.reshape(tiles, groups, size // 64, TILE, 4)[index // TILE, :, :, index % TILE]  # (..., G, vectors, 4)
    if size == 16 * GROUP:
        values = jax.lax.bitcast_convert_type(words, jnp.int8)
    else:
        values = jnp.concatenate([words & 15, words >> 4], axis=-2).astype(jnp.int8) - jnp.int8(8)
    wide = values.astype(jnp.float32).reshape(*index.shape, groups, GROUP)
    wide = wide * scales[index // TILE, :, index % TILE].astype(jnp.float32)[..., None]
    return wide.reshape(*index.shape, groups * GROUP)[..., :ins]


def quantise_rows(rows: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Activations as 8-bit codes: (n, in) to (n, groups * 32) int8 and (n, groups) float32 scales."""
    n, ins = rows.shape
    groups = -(-ins // GROUP)
    parts = jnp.pad(rows.astype(jnp.float32), ((0, 0), (0, groups * GROUP - ins))).reshape(n, groups, GROUP)
    scales = jnp.max(jnp.abs(parts), axis=-1) / 127.0
    inverse = jnp.where(scales > 0, 1.0 / jnp.where(scales > 0, scales, 1.0), 0.0)
    codes = jnp.clip(jnp.round(parts * inverse[..., None]), -127, 127).astype(jnp.int8)
    return codes.reshape(n, groups * GROUP), scales


Matrix = tuple[jax.Array, jax.Array]
"""Codes and scales as `pack` gives them."""


@partial(jax.custom_jvp, nondiff_argnums=(2, 3))
def packed_products(
    rows: jax.Array, matrices: tuple[Matrix, ...], outs: tuple[int, ...], many: bool = False
) -> tuple[jax.Array, ...]:
    """Contract the same rows with packed matrices; on the CPU by the native kernel where there is one.

    The derivative is that of the products with the unpacked matrices: rounding of the rows is passed
    through. Packed weights themselves are not differentiated.

    Args:
      rows: (n, in) float32 or bfloat16, rounded once to 8 bits a value with a scale for 32 of them.
      matrices: of 4 or 8 bits each.
      outs: rows of each matrix.
      many: whether a matrix unit may take the rows, where the processor has one: it rounds rows and weights to
        bfloat16 instead, and pays from some 16 rows on.

    Returns:
      for each matrix (n, outs) in the dtype of `rows`; sums are float32.

    Raises:
      TypeError: shapes or types do not fit.
    """
    for (codes, scales), out in zip(matrices, outs, strict=True):
        check(rows, codes, scales, out)
    return jax.lax.platform_dependent(
        rows,
        matrices,
        cpu=partial(_on_cpu, outs=outs, many=many),
        default=partial(packed_products_reference, outs=outs),
    )


def check(rows: jax.Array, codes: jax.Array, scales: jax.Array, outs: int) -> None:
    """Refuse what does not fit together with a TypeError."""
    tiles, groups, size = codes.shape
    fits = scales.shape == (tiles, groups, TILE) and size in (8 * GROUP, 16 * GROUP) and tiles == -(-outs // TILE)
    fits = fits and rows.ndim == 2 and groups == -(-rows.shape[1] // GROUP)
    if not fits or codes.dtype != jnp.uint8 or rows.dtype not in (jnp.float32, jnp.bfloat16):
        found = ", ".join(str(jax.typeof(array)) for array in (rows, codes, scales))
        raise TypeError(f"packed_products wants rows, packed codes and their scales for {outs} outputs, not {found}")


def packed_products_reference(
    rows: jax.Array, matrices: tuple[Matrix, ...], outs: tuple[int, ...]
) -> tuple[jax.Array, ...]:
    """The same in plain JAX: rounded rows times the unpacked matrices."""
    return wide_products(rounded(rows), matrices, outs, rows.dtype)


def rounded(rows: jax.Array) -> jax.Array:
    """The float32 values that the kernel takes rows for."""
    codes, scales = quantise_rows(rows)
    wide = codes.reshape(*scales.shape, GROUP).astype(jnp.float32) * scales[..., None]
    return wide.reshape(len(codes), -1)[:, : rows.shape[1]]


def _on_cpu(rows: jax.Array, matrices: tuple[Matrix, ...], outs: tuple[int, ...], many: bool) -> tuple[jax.Array, ...]:
    if not native.available():
        return packed_products_reference(rows, matrices, outs)
    results = [jax.ShapeDtypeStruct((rows.shape[0], out), rows.dtype) for out in outs]
    call = jax.ffi.ffi_call(native.PACKED_PRODUCT, results, vmap_method="sequential")
    return tuple(call(rows, *itertools.chain(*matrices), level=native.choice(), gated=False, many=many))


@packed_products.defjvp
def _derivative(
    outs: tuple[int, ...], many: bool, primals: tuple[Any, ...], tangents: tuple[Any, ...]
) -> tuple[Any, Any]:
    rows, matrices = primals
    return packed_products(rows, matrices, outs, many), wide_products(tangents[0], matrices, outs, rows.dtype)


def wide_products(
    rows: jax.Array, matrices: tuple[Matrix, ...], outs: tuple[int, ...], dtype: jnp.dtype
) -> tuple[jax.Array, ...]:
    """Products with the unpacked matrices, in plain JAX."""
    unpacked = [unpack(codes, scales, out, rows.shape[1]) for (codes, scales), out in zip(matrices, outs, strict=True)]
    return tuple(jnp.einsum("ni,oi->no", rows.astype(jnp.float32), matrix).astype(dtype) for matrix in unpacked)
