"""The gated product: each level is what float64 makes of the rounded rows, whatever the bits of its matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.weights import project_gated
from gemwright.kernels import native
from gemwright.kernels.gated_product import gated_product, gated_product_reference
from tests.kernels.test_packed_product import (
    LEVELS,
    codes_and_scales,
    halves,
    needs_native,
    needs_unit,
    packed,
    rounded,
    rows_of,
    values,
)
from tests.tolerances import SAME


def gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; skips those that this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        gated_product(rows_of(1, 1), packed(1, 1, 4), packed(1, 1, 8), 1).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if f"does not support {request.param}" not in str(error):
            raise
        pytest.skip(f"this processor does not support {request.param}")
    return request.param


@needs_native
@pytest.mark.parametrize("bits", [(4, 4), (8, 8), (4, 8)])
@pytest.mark.parametrize(("n", "outs"), [(1, 37), (2, 16), (5, 1), (9, 1031)])
def test_each_level_is_the_float64_result(level: str, bits: tuple[int, int], n: int, outs: int) -> None:
    rows = rows_of(n, 83)
    found = gated_product(rows, packed(outs, 83, bits[0], 0), packed(outs, 83, bits[1], 1), outs)
    gates, ups = (rounded(rows) @ values(*codes_and_scales(outs, 83, b, seed)).T for seed, b in enumerate(bits))
    np.testing.assert_allclose(np.asarray(found), gelu(gates) * ups, rtol=0, atol=SAME)


@needs_unit
@pytest.mark.parametrize("outs", [37, 600])
def test_many_rows_are_gated_after_a_matrix_unit(outs: int) -> None:
    rows = rows_of(300, 83)
    found = gated_product(rows, packed(outs, 83, 4, 0), packed(outs, 83, 8, 1), outs, True)
    gates, ups = (
        halves(np.asarray(rows)) @ halves(values(*codes_and_scales(outs, 83, bits, seed))).T
        for seed, bits in enumerate((4, 8))
    )
    np.testing.assert_allclose(np.asarray(found), gelu(gates) * ups, rtol=0, atol=SAME)


@needs_native
def test_gates_of_every_size(level: str) -> None:
    rows = jnp.asarray(np.geomspace(1e-3, 1e3, 25)[:, None] * np.ones((1, 32)), jnp.float32)
    one = packed(1, 32, 4)
    for sign in (1, -1):
        found = np.asarray(gated_product(sign * rows, one, one, 1))[:, 0]
        product = (rounded(sign * rows) @ values(*codes_and_scales(1, 32, 4)).T)[:, 0]
        np.testing.assert_allclose(found, gelu(product) * product, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("switch", ["", "off"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_the_reference_whichever_runs(switch: str, dtype: jnp.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, switch)
    arguments = rows_of(5, 200).astype(dtype), packed(33, 200, 4), packed(33, 200, 8, 1), 33
    found, reference = gated_product(*arguments), gated_product_reference(*arguments)
    assert found.dtype == reference.dtype == dtype
    wide = np.asarray(reference, np.float32)
    atol = SAME if dtype == jnp.float32 else 2.0**-7 * np.abs(wide).max()
    np.testing.assert_allclose(np.asarray(found, np.float32), wide, rtol=0, atol=atol)


def test_the_derivative_passes_through_the_rounding_of_the_rows() -> None:
    rows, step = rows_of(3, 40), np.linspace(-1, 1, 21).reshape(3, 7)
    found = jax.grad(lambda rows: jnp.sum(step * gated_product(rows, packed(7, 40, 4, 0), packed(7, 40, 8, 1), 7)))(
        rows
    )

    def unrounded(rows: np.ndarray) -> float:
        gates, ups = (rows @ values(*codes_and_scales(7, 40, bits, seed)).T for seed, bits in enumerate((4, 8)))
        return float(np.sum(step * gelu(gates) * ups))

    wide, nudge = np.asarray(rows, np.float64), np.zeros((3, 40))
    nudge[2, 39] = 1e-4
    expected = (unrounded(wide + nudge) - unrounded(wide - nudge)) / 2e-4
    assert float(found[2, 39]) == pytest.approx(expected, abs=SAME)


def test_dense_weights_are_gated_alike() -> None:
    rows, gate, up = rows_of(3, 40).reshape(1, 3, 40), rows_of(7, 40, 1), rows_of(7, 40, 2)
    wide = [np.asarray(part, np.float64) for part in (rows, gate, up)]
    expected = gelu(wide[0] @ wide[1].T) * (wide[0] @ wide[2].T)
    np.testing.assert_allclose(np.asarray(project_gated(rows, gate, up)), expected, rtol=1e-4, atol=1e-4)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(TypeError, match="packed_products wants"):
        gated_product(rows_of(1, 64), packed(16, 64, 4), packed(17, 64, 4), 16)
