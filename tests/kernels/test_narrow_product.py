"""The product of bfloat16 matrices: each form is the float64 result rounded once; XLA's where the kernel cannot be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.core.weights import project
from gemwright.kernels import native
from gemwright.kernels.narrow_product import narrow_product, narrow_product_reference, serves
from tests.tolerances import BFLOAT16, SAME

needs_bfloat16 = pytest.mark.skipif(
    not native.multiplies_bfloat16(), reason="this processor has no products of bfloat16, or the kernels are off"
)


@pytest.fixture(params=["avx512", "amx"])
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Vectors, and the matrix unit; skips what this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    if not native.multiplies_bfloat16():
        pytest.skip(f"this processor multiplies no bfloat16 at the level {request.param}")
    return request.param


def drawn(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.bfloat16)


def wide(*arrays: jax.Array) -> list[np.ndarray]:
    return [np.asarray(array, np.float64) for array in arrays]


def check(n: int, i: int, o: int) -> None:
    """All three forms; sums of float32 add less than a millionth of the size of their terms."""
    rows, matrix, gradient = drawn(n, i), drawn(o, i, seed=1), drawn(n, o, seed=2)
    found, back = jax.vjp(narrow_product, rows, matrix)
    x, m, g = wide(rows, matrix, gradient)
    for one, left, right in zip((found, *back(gradient)), (x, g, g.T), (m.T, m, x), strict=True):
        assert one.dtype == jnp.bfloat16
        expected, sizes = left @ right, np.abs(left) @ np.abs(right)
        assert (np.abs(wide(one)[0] - expected) <= BFLOAT16 * np.abs(expected) + 1e-6 * sizes).all()


@pytest.mark.parametrize(
    "sizes", [(64, 256, 768), (97, 33, 65), (1, 1, 1), (50, 2, 64), (70, 4099, 3), (300, 37, 1091)]
)
def test_each_form_is_the_float64_result(level: str, sizes: tuple[int, int, int]) -> None:
    check(*sizes)


@needs_bfloat16
@settings(derandomize=True, deadline=None, max_examples=15)
@given(n=st.integers(1, 130), i=st.integers(1, 90), o=st.integers(1, 150))
def test_any_shape(n: int, i: int, o: int) -> None:
    check(n, i, o)


def test_what_is_no_number_stays_none_and_spreads_no_further(level: str) -> None:
    rows = drawn(64, 17).at[3, 16].set(jnp.nan)
    missing = np.isnan(wide(narrow_product(rows, drawn(5, 17)))[0])
    assert missing[3].all()
    assert missing.sum() == 5


@needs_bfloat16
def test_a_product_of_many_rows_goes_to_the_kernel_and_of_few_does_not() -> None:
    matrix = drawn(24, 16)
    assert serves(drawn(64, 16), matrix)
    assert not serves(drawn(63, 16), matrix)
    assert not serves(drawn(64, 16).astype(jnp.float32), matrix)
    calls = [jax.jit(project).lower(drawn(n, 16), matrix).as_text().count(native.NARROW_PRODUCT) for n in (64, 63)]
    assert calls == [1, 0]


@needs_bfloat16
def test_a_mesh_of_one_device_has_the_kernel_too() -> None:
    with jax.set_mesh(make_mesh(MeshShape(fsdp=1), jax.devices()[:1])):
        assert native.NARROW_PRODUCT in jax.jit(project).lower(drawn(64, 16), drawn(24, 16)).as_text()


@pytest.mark.parametrize("switch", ["off", "portable", "avx2"])
def test_elsewhere_it_is_xlas(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, switch)
    rows, matrix = drawn(64, 16), drawn(24, 16)
    assert not serves(rows, matrix)
    found = project(rows, matrix)
    np.testing.assert_allclose(*wide(found, narrow_product_reference(rows, matrix)), rtol=BFLOAT16, atol=SAME)


@needs_bfloat16
def test_vmap_is_one_product_after_another() -> None:
    rows, matrix = drawn(2, 64, 16), drawn(24, 16)
    together = jax.vmap(narrow_product, in_axes=(0, None))(rows, matrix)
    for one, alone in zip(together, rows, strict=True):
        np.testing.assert_array_equal(*wide(one, narrow_product(alone, matrix)))


@needs_bfloat16
def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(jax.errors.JaxRuntimeError, match="shapes do not fit"):
        narrow_product(drawn(64, 16), drawn(24, 15)).block_until_ready()
