"""Products of a few rows with matrices on a GPU, with the norm before them and the sum after them in the same kernel.

A step of decoding is as fast as its matrices are read; each kernel less spares it a start and an end. Written with
Pallas for Triton, which is imported where such a kernel is traced.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.kernels.gpu import Tile, for_rows, tile_for

Matrices = tuple[jax.Array, ...]
Sums = list[list[jax.Array]]
"""Of each matrix and each row: (outs of a tile,) float32."""

PRODUCTS_TILE = Tile(outs=4, ins=1024, ahead=2, warps=4)
LONG_TILE = Tile(outs=4, ins=1024, ahead=4, warps=4)  # for rows longer than _LONG
GATED_TILE = Tile(outs=8, ins=1024, ahead=2, warps=4)
MANY_TILE = Tile(outs=8, ins=1024, ahead=2, warps=4)  # for a matrix of more than _MANY outputs
_LONG, _MANY = 8192, 65_536

# ------------------------------------------------------------------------------------- products


def products_tile(rows: int, outs: Sequence[int], ins: int) -> Tile | None:
    """How `row_products` cuts matrices of so many outputs and inputs; None where it does not take them."""
    wanted = MANY_TILE if min(outs) > _MANY else LONG_TILE if ins > _LONG else PRODUCTS_TILE
    return tile_for(outs, ins, for_rows(rows, wanted))


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def row_products(
    rows: jax.Array, matrices: Matrices, gain: jax.Array | None, added: jax.Array | None, epsilon: float
) -> Matrices:
    """Rows, normed where there is a gain, times each matrix; to the product with a single one `added` is added.

    Args:
      rows: (n, in) bfloat16, few.
      matrices: (out, in) bfloat16 each.
      gain: (in,): rows are divided by their root mean square and multiplied by 1 + gain.
      added: (n, out), or None.

    Returns:
      (n, out) of each matrix, in bfloat16. The kernel rounds once what the reference rounds after each operation.
    """
    return jax.lax.platform_dependent(
        rows, matrices, gain, added,
        cuda=partial(products_on_gpu, epsilon=epsilon), default=partial(row_products_reference, epsilon=epsilon),
    )  # fmt: skip


def row_products_reference(
    rows: jax.Array, matrices: Matrices, gain: jax.Array | None, added: jax.Array | None, epsilon: float
) -> Matrices:
    """The same in plain JAX."""
    rows = rows if gain is None else _normed(rows, gain, epsilon)
    products = tuple(_product(rows, matrix) for matrix in matrices)
    return products if added is None else (added + products[0],)


def products_on_gpu(
    rows: jax.Array,
    matrices: Matrices,
    gain: jax.Array | None,
    added: jax.Array | None,
    epsilon: float,
    tile: Tile | None = None,
    interpret: bool = False,
) -> Matrices:
    """The kernel, cut by `tile` or as is best known."""
    assert added is None or len(matrices) == 1
    outs = [len(matrix) for matrix in matrices]
    tile = tile or products_tile(len(rows), outs, rows.shape[1])
    assert tile is not None

    def kernel(*refs: Any) -> None:
        x, gains, plus, matrix_refs, results = _sorted(refs, gain, added, len(matrices))
        for start, inside, matrix, result in _own_part(matrix_refs, results, tile.outs):

            @inside
            def _(start: Any = start, matrix: Any = matrix, result: Any = result) -> None:
                (sums,) = _row_sums(x, gains, (matrix,), start, tile, epsilon)
                _store(result, sums, start, plus)

    shapes = [jax.ShapeDtypeStruct((len(rows), out), rows.dtype) for out in outs]
    call = _call(kernel, shapes, sum(outs) // tile.outs, tile, "row_products", interpret)
    return tuple(call(rows, *_given(gain), *_given(added), *matrices))


def _own_part(matrices: Sequence[Any], results: Sequence[Any], block: int) -> list[tuple[Any, Any, Any, Any]]:
    """Of each matrix: where a program's outputs begin in it, and what runs a function if they are any of its own."""
    from jax.experimental import pallas as pl

    program, first = pl.program_id(0), 0
    parts: list[tuple[Any, Any, Any, Any]] = []
    for matrix, result in zip(matrices, results, strict=True):
        count = matrix.shape[0] // block
        inside = pl.when((program >= first) & (program < first + count)) if len(matrices) > 1 else _always
        parts.append(((program - first) * block, inside, matrix, result))
        first += count
    return parts


def _always(function: Callable[[], None]) -> None:
    function()


# ---------------------------------------------------------------------------------------- gated


def gated_tile(rows: int, outs: int, ins: int) -> Tile | None:
    """How `gated_rows` cuts its matrices; None where it does not take them."""
    return tile_for([outs], ins, for_rows(rows, GATED_TILE))


@partial(jax.custom_jvp, nondiff_argnums=(4,))
def gated_rows(rows: jax.Array, gate: jax.Array, up: jax.Array, gain: jax.Array | None, epsilon: float) -> jax.Array:
    """gelu(rows x gate) * (rows x up), gelu by its tanh, rows normed where there is a gain.

    Args:
      rows: (n, in) bfloat16, few.
      gate, up: (out, in) bfloat16.
      gain: (in,), as in `row_products`.

    Returns:
      (n, out) bfloat16.
    """
    return jax.lax.platform_dependent(
        rows, gate, up, gain,
        cuda=partial(gated_on_gpu, epsilon=epsilon), default=partial(gated_rows_reference, epsilon=epsilon),
    )  # fmt: skip


def gated_rows_reference(
    rows: jax.Array, gate: jax.Array, up: jax.Array, gain: jax.Array | None, epsilon: float
) -> jax.Array:
    """The same in plain JAX."""
    rows = rows if gain is None else _normed(rows, gain, epsilon)
    return jax.nn.gelu(_product(rows, gate), approximate=True) * _product(rows, up)


def gated_on_gpu(
    rows: jax.Array,
    gate: jax.Array,
    up: jax.Array,
    gain: jax.Array | None,
    epsilon: float,
    tile: Tile | None = None,
    interpret: bool = False,
) -> jax.Array:
    """The kernel, cut by `tile` or as is best known."""
    from jax.experimental import pallas as pl

    tile = tile or gated_tile(len(rows), len(gate), rows.shape[1])
    assert tile is not None

    def kernel(*refs: Any) -> None:
        x, gains, _, matrices, (result,) = _sorted(refs, gain, None, 2)
        start = pl.program_id(0) * tile.outs
        gates, ups = _row_sums(x, gains, matrices, start, tile, epsilon)
        _store(result, [_gelu(one) * other for one, other in zip(gates, ups, strict=True)], start, None)

    shape = jax.ShapeDtypeStruct((len(rows), len(gate)), rows.dtype)
    call = _call(kernel, [shape], len(gate) // tile.outs, tile, "gated_rows", interpret)
    return call(rows, *_given(gain), gate, up)[0]


def _gelu(x: jax.Array) -> jax.Array:
    """x (1 + tanh(z)) / 2 = x / (1 + e^(-2z))."""
    return x / (1 + jnp.exp(-1.5957691216057308 * (x + 0.044715 * x * x * x)))


# ----------------------------------------------------------------------------- inside a kernel


def _row_sums(x: Any, gains: Any, matrices: Sequence[Any], start: Any, tile: Tile, epsilon: float) -> Sums:
    """Each row times `tile.outs` rows of each matrix, from `start` on. The norm's factor comes after the sum."""
    count, ins = x.shape
    turn = tile.ins * tile.ahead
    zero, none = jnp.zeros((tile.outs, tile.ins), jnp.float32), jnp.zeros((tile.ins,), jnp.float32)
    kept = [[zero] * count for _ in matrices], [none] * (0 if gains is None else count)
    take = partial(_take, x, gains, matrices, start, tile)
    if ins == turn:
        sums, squares = take(0, kept)
    else:
        sums, squares = jax.lax.fori_loop(0, ins // turn, lambda index, kept: take(index * turn, kept), kept)
    factors = [jax.lax.rsqrt(jnp.sum(square) / ins + epsilon) for square in squares] or [jnp.float32(1)] * count
    return [[jnp.sum(wide, axis=1) * factor for wide, factor in zip(of, factors, strict=True)] for of in sums]


def _take(x: Any, gains: Any, matrices: Sequence[Any], start: Any, tile: Tile, first: Any, kept: Any) -> Any:
    """The sums with `tile.ahead` pieces more, from the input `first` on."""
    from jax.experimental import pallas as pl

    sums, squares = [list(of) for of in kept[0]], list(kept[1])
    pieces = [pl.ds(first + piece * tile.ins, tile.ins) for piece in range(tile.ahead)]
    loaded = [[matrix[pl.ds(start, tile.outs), piece] for matrix in matrices] for piece in pieces]
    for piece, values in zip(pieces, loaded, strict=True):
        gain = None if gains is None else 1.0 + gains[piece].astype(jnp.float32)
        for row in range(x.shape[0]):
            inputs = x[row, piece].astype(jnp.float32)
            if gain is not None:
                squares[row] += inputs * inputs
                inputs = inputs * gain
            for of, value in zip(sums, values, strict=True):
                of[row] += value.astype(jnp.float32) * inputs[None]
    return sums, squares


def _store(result: Any, sums: list[jax.Array], start: Any, plus: Any) -> None:
    from jax.experimental import pallas as pl

    for row, total in enumerate(sums):
        place = (row, pl.ds(start, total.shape[0]))
        value = total.astype(result.dtype)
        if plus is not None:  # rounded before the sum too, as the reference does
            value = (plus[place].astype(jnp.float32) + value.astype(jnp.float32)).astype(result.dtype)
        result[place] = value


def _given(part: jax.Array | None) -> list[jax.Array]:
    return [] if part is None else [part]


def _sorted(refs: Sequence[Any], gain: Any, added: Any, count: int) -> tuple[Any, Any, Any, list[Any], list[Any]]:
    """References as they were given: rows, gains, what is added, matrices, results."""
    rest = list(refs)
    x = rest.pop(0)
    gains = None if gain is None else rest.pop(0)
    plus = None if added is None else rest.pop(0)
    return x, gains, plus, rest[:count], rest[count:]


def _call(kernel: Any, shapes: list[Any], programs: int, tile: Tile, name: str, interpret: bool) -> Callable[..., Any]:
    from jax.experimental import pallas as pl
    from jax.experimental.pallas import triton

    parameters = triton.CompilerParams(num_warps=tile.warps, num_stages=1)
    kernel.__name__ = name
    return pl.pallas_call(
        kernel, out_shape=shapes, grid=(programs,), compiler_params=parameters, interpret=interpret, name=name
    )


# ------------------------------------------------------------------------------------ reference


def _normed(rows: jax.Array, gain: jax.Array, epsilon: float) -> jax.Array:
    wide = rows.astype(jnp.float32)
    wide = wide * jax.lax.rsqrt(jnp.mean(jnp.square(wide), axis=-1, keepdims=True) + epsilon)
    return (wide * (1.0 + gain.astype(jnp.float32))).astype(rows.dtype)


def _product(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    contract_last = (((1,), (1,)), ((), ()))
    return jax.lax.dot_general(rows, matrix, contract_last, preferred_element_type=jnp.float32).astype(rows.dtype)


@row_products.defjvp
def _products_derivative(epsilon: float, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    _, tangent = jax.jvp(partial(row_products_reference, epsilon=epsilon), primals, tangents)
    return row_products(*primals, epsilon), tangent


@gated_rows.defjvp
def _gated_derivative(epsilon: float, primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[Any, Any]:
    _, tangent = jax.jvp(partial(gated_rows_reference, epsilon=epsilon), primals, tangents)
    return gated_rows(*primals, epsilon), tangent
