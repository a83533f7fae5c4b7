"""The thin product, native and in plain JAX: both are the float64 sum, and every transformation works on both."""

import functools
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.core.weights import project
from gemwright.kernels import native
from gemwright.kernels.thin_product import most_rows, thin_product, thin_product_reference
from tests.tolerances import BFLOAT16, SAME

LEVELS = ("portable", "avx2", "avx512")

needs_native = pytest.mark.skipif(not native.available(), reason="the native kernels were not built, or are off")


def arrays(n: int, width: int, outs: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    """Rows scaled so that the products are about 1, and a bfloat16 matrix."""
    draw = np.random.default_rng(seed)
    rows = draw.standard_normal((n, width)) / np.sqrt(width)
    return jnp.asarray(rows, jnp.float32), jnp.asarray(draw.standard_normal((outs, width)), jnp.bfloat16)


def exact(rows: jax.Array, matrix: jax.Array) -> np.ndarray:
    return np.asarray(rows, np.float64) @ np.asarray(matrix, np.float64).T


def check(rows: jax.Array, matrix: jax.Array) -> None:
    out = thin_product(rows, matrix)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(out), exact(rows, matrix), rtol=0, atol=SAME)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; skips those that this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        thin_product(*arrays(1, 1, 1)).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if f"does not support {request.param}" not in str(error):
            raise
        pytest.skip(f"this processor does not support {request.param}")
    return request.param


@pytest.fixture(params=["native", "reference"])
def path(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    if request.param == "reference":
        monkeypatch.setenv(native.VARIABLE, "off")
    elif not native.available():
        pytest.skip("the native kernels were not built, or are off")
    return request.param


@needs_native
@pytest.mark.parametrize("n", range(1, 9))
def test_each_level_is_the_float64_sum(level: str, n: int) -> None:
    # 83 and 37 are multiples of no vector and no block.
    check(*arrays(n, 83, 37))


@needs_native
@settings(max_examples=10, deadline=None)
@given(n=st.integers(1, 8), width=st.integers(1, 70), outs=st.integers(1, 20), seed=st.integers(0, 99))
def test_any_shape(n: int, width: int, outs: int, seed: int) -> None:
    check(*arrays(n, width, outs, seed))


@needs_native
def test_many_chunks_for_many_threads(level: str) -> None:
    check(*arrays(3, 1000, 1031))


@needs_native
def test_the_native_product_is_the_reference() -> None:
    rows, matrix = arrays(5, 200, 33)
    rows = rows.astype(jnp.bfloat16)
    native_out, reference = thin_product(rows, matrix), thin_product_reference(rows, matrix)
    assert native_out.dtype == reference.dtype
    np.testing.assert_allclose(np.asarray(native_out), np.asarray(reference), rtol=0, atol=SAME)


@needs_native
def test_products_side_by_side_in_one_program_end() -> None:
    rows, matrix = arrays(2, 1000, 1031)

    @jax.jit
    def several(rows: jax.Array, matrix: jax.Array) -> list[jax.Array]:
        return [thin_product(rows * scale, matrix) for scale in range(6)]

    for scale, out in enumerate(several(rows, matrix)):
        np.testing.assert_allclose(np.asarray(out), scale * exact(rows, matrix), rtol=0, atol=10 * SAME)


def test_gradients_are_the_references(path: str) -> None:
    rows, matrix = arrays(3, 40, 7)
    step = jnp.linspace(-1, 1, 21).reshape(3, 7)

    def loss(product, rows: jax.Array, matrix: jax.Array) -> jax.Array:
        return jnp.sum(step * product(rows, matrix) ** 2)

    got = jax.grad(lambda *args: loss(thin_product, *args), argnums=(0, 1))(rows, matrix)
    want = jax.grad(lambda *args: loss(exact_dot, *args), argnums=(0, 1))(rows, matrix)
    assert got[1].dtype == jnp.bfloat16
    np.testing.assert_allclose(np.asarray(got[0]), np.asarray(want[0]), rtol=0, atol=SAME)
    np.testing.assert_allclose(*(np.asarray(g[1], np.float32) for g in (got, want)), rtol=BFLOAT16, atol=SAME)


def exact_dot(rows: jax.Array, matrix: jax.Array) -> jax.Array:
    return jnp.matmul(rows, matrix.astype(jnp.float32).T)


def test_forward_derivatives_and_a_frozen_matrix(path: str) -> None:
    rows, matrix = arrays(2, 40, 7)
    out, step = jax.jvp(lambda rows: thin_product(rows, matrix), (rows,), (2 * rows,))
    np.testing.assert_allclose(np.asarray(step), 2 * np.asarray(out), rtol=0, atol=SAME)
    program = str(jax.make_jaxpr(jax.grad(lambda rows: thin_product(rows, matrix).sum()))(rows))
    assert program.count("dot_general") == 1  # only the gradient of the rows


def test_vmap(path: str) -> None:
    rows, matrix = arrays(6, 40, 7)
    batched = rows.reshape(3, 2, 40)
    matrices = jnp.stack([matrix, 2 * matrix, -matrix])
    shared = jax.vmap(thin_product, in_axes=(0, None))(batched, matrix)
    own = jax.vmap(thin_product)(batched, matrices)
    np.testing.assert_allclose(np.asarray(shared).reshape(6, 7), exact(rows, matrix), rtol=0, atol=SAME)
    np.testing.assert_allclose(np.asarray(own[1]), 2 * exact(batched[1], matrix), rtol=0, atol=SAME)


def test_decoding_takes_it(path: str) -> None:
    rows, matrix = arrays(most_rows(), 40, 7)
    assert ("ffi_call" in str(jax.make_jaxpr(project)(rows, matrix))) == (path == "native")
    np.testing.assert_allclose(np.asarray(jax.jit(project)(rows, matrix)), exact(rows, matrix), rtol=0, atol=SAME)


@needs_native
def test_sharded_operands_give_the_same() -> None:
    if jax.device_count() < 2:
        pytest.skip("needs two devices")
    mesh = jax.make_mesh((2,), ("x",))
    rows, matrix = arrays(2, 40, 8)
    sharded = jax.device_put(matrix, jax.NamedSharding(mesh, jax.P("x")))
    whole = jax.device_put(rows, jax.NamedSharding(mesh, jax.P()))
    np.testing.assert_allclose(np.asarray(jax.jit(project)(whole, sharded)), exact(rows, matrix), rtol=0, atol=SAME)


def test_off_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "off")
    assert not native.available()
    assert most_rows() == 3
    check(*arrays(3, 40, 7))


@pytest.mark.parametrize("built", [True, False])
def test_without_a_library_that_loads_it_says_so_once(
    built: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "libgemwright_kernels.so"
    broken.write_bytes(b"not a library")
    monkeypatch.setattr(native, "_libraries", lambda: iter([broken] if built else []))
    monkeypatch.setattr(native, "_loaded", functools.cache(native._loaded.__wrapped__))
    monkeypatch.delenv(native.VARIABLE, raising=False)
    assert not native.available()
    check(*arrays(3, 40, 7))
    (line,) = caplog.messages
    assert (f"{broken} does not load" if built else "no native kernels were built") in line
    assert "plain JAX runs" in line


def test_an_unknown_setting_says_what_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "fast")
    with pytest.raises(ValueError, match="'fast'; it must be one of off, portable, avx2, avx512, amx"):
        thin_product(*arrays(1, 4, 4))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.float16])
def test_another_dtype_is_refused(dtype: jnp.dtype) -> None:
    rows, matrix = arrays(1, 4, 4)
    with pytest.raises(TypeError, match="bfloat16"):
        thin_product(rows, matrix.astype(dtype))


def test_shapes_that_do_not_fit_are_refused() -> None:
    rows, matrix = arrays(1, 4, 4)
    with pytest.raises(TypeError, match="wants"):
        thin_product(rows[:, :3], matrix)
