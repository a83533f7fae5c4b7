"""The gate of an MLP in training: each level is float64's gelu(gate) * up, and so are its derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.core.weights import gated
from gemwright.kernels import native
from gemwright.kernels.gated_values import gated_values, gated_values_reference
from tests.kernels.test_gated_product import gelu
from tests.kernels.test_packed_product import LEVELS, needs_native
from tests.tolerances import BFLOAT16, SAME

like_a_property = settings(derandomize=True, deadline=None, max_examples=15)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; skips those that this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        gated_values(jnp.ones(1), jnp.ones(1)).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if f"does not support {request.param}" not in str(error):
            raise
        pytest.skip(f"this processor does not support {request.param}")
    return request.param


def gelu_slope(x: np.ndarray) -> np.ndarray:
    """By small steps."""
    return (gelu(x + 1e-5) - gelu(x - 1e-5)) / 2e-5


def draws(shape: tuple[int, ...], dtype: Any = jnp.float32, seed: int = 0) -> list[jax.Array]:
    """Gates, ups and the gradient of the result."""
    draw = np.random.default_rng(seed)
    return [jnp.asarray(size * draw.standard_normal(shape), dtype) for size in (2.0, 1.0, 1.0)]


def found_and_slopes(gates: jax.Array, ups: jax.Array, by: jax.Array) -> list[jax.Array]:
    found, back = jax.vjp(gated_values, gates, ups)
    return [found, *back(by)]


def exact(gates: jax.Array, ups: jax.Array, by: jax.Array) -> list[np.ndarray]:
    gate, up, slope = (np.asarray(part.astype(jnp.float32), np.float64) for part in (gates, ups, by))
    return [gelu(gate) * up, slope * up * gelu_slope(gate), slope * gelu(gate)]


def check(*arguments: jax.Array) -> None:
    narrow = arguments[0].dtype == jnp.bfloat16
    for found, expected in zip(found_and_slopes(*arguments), exact(*arguments), strict=True):
        assert found.dtype == arguments[0].dtype
        wide = np.asarray(found.astype(jnp.float32))
        np.testing.assert_allclose(wide, expected, rtol=BFLOAT16 if narrow else 0, atol=SAME)


@needs_native
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("shape", [(), (16,), (2, 3, 37), (70001,)])
def test_each_level_is_the_float64_result(level: str, shape: tuple[int, ...], dtype: jnp.dtype) -> None:
    check(*draws(shape, dtype))


@needs_native
@like_a_property
@given(
    shape=st.lists(st.integers(0, 20), max_size=3), narrow=st.booleans(), seed=st.integers(0, 99)
)  # fmt: skip
def test_any_shape(shape: list[int], narrow: bool, seed: int) -> None:
    check(*draws(tuple(shape), jnp.bfloat16 if narrow else jnp.float32, seed))


@needs_native
def test_gates_of_every_size(level: str) -> None:
    """Where the cube of a gate is infinite too."""
    sizes = np.geomspace(1e-3, 1e3, 61)
    gates = np.concatenate([sizes, -sizes])
    found, to_gates, to_ups = (
        np.asarray(part) for part in found_and_slopes(jnp.asarray(gates, jnp.float32), *[jnp.ones(122)] * 2)
    )
    np.testing.assert_allclose(found, gelu(gates), rtol=SAME, atol=1e-7)
    np.testing.assert_allclose(to_ups, gelu(gates), rtol=SAME, atol=1e-7)
    np.testing.assert_allclose(to_gates, gelu_slope(gates), rtol=0, atol=SAME)
    for far in (1e5, 1e13, 1e18):
        found, to_gates, _ = found_and_slopes(jnp.asarray([far, -far], jnp.float32), *[jnp.ones(2)] * 2)
        np.testing.assert_allclose(np.asarray(found), [far, 0], rtol=SAME, atol=SAME)
        np.testing.assert_allclose(np.asarray(to_gates), [1, 0], rtol=0, atol=SAME)


@needs_native
def test_what_is_no_number_stays_none(level: str) -> None:
    """So that a step of training notices."""
    for dtype in (jnp.float32, jnp.bfloat16):
        for place, reached in enumerate(((0, 1, 2), (0, 1), (1, 2))):
            arguments = draws((37,), dtype)
            for index in (3, 36):
                arguments[place] = arguments[place].at[index].set(jnp.nan)
            parts = [np.isnan(np.asarray(part.astype(jnp.float32))) for part in found_and_slopes(*arguments)]
            assert [bool(part[[3, 36]].all()) for part in parts] == [number in reached for number in range(3)]
            assert all(part.sum() in (0, 2) for part in parts)


@needs_native
def test_vmap_is_each_by_itself() -> None:
    arguments = draws((3, 21))
    for each, expected in zip(jax.vmap(found_and_slopes)(*arguments), found_and_slopes(*arguments), strict=True):
        np.testing.assert_array_equal(np.asarray(each), np.asarray(expected))


@needs_native
def test_arrays_that_are_not_alike_are_refused() -> None:
    ones = jnp.ones((2, 8))
    for ups in (ones[:1], ones.astype(jnp.bfloat16)):
        with pytest.raises(
            jax.errors.JaxRuntimeError, match="gated_values: expected arrays of one shape, all bfloat16"
        ):
            gated_values(ones, ups).block_until_ready()
    with pytest.raises(jax.errors.JaxRuntimeError, match="all bfloat16 or all float32"):
        gated_values(ones.astype(jnp.float16), ones.astype(jnp.float16)).block_until_ready()


@pytest.mark.parametrize("switch", ["", "off"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_it_is_the_reference_whichever_runs(switch: str, dtype: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, switch)
    gates, ups, by = draws((5, 70), dtype)

    def all_of(gate: Any) -> list[jax.Array]:
        def both(gates: jax.Array, ups: jax.Array) -> Any:
            found, back = jax.vjp(gate, gates, ups)
            return found, back(by)

        return jax.tree.leaves(jax.jit(both)(gates, ups))

    for one, other in zip(all_of(gated), all_of(gated_values_reference), strict=True):
        assert one.dtype == other.dtype == dtype
        wide = np.asarray(other.astype(jnp.float32))
        within = SAME if dtype == jnp.float32 else 2 * BFLOAT16  # each is rounded
        np.testing.assert_allclose(np.asarray(one.astype(jnp.float32)), wide, rtol=within, atol=SAME)


@needs_native
def test_several_devices_have_no_kernel() -> None:
    for count in (1, 2):
        with jax.set_mesh(make_mesh(MeshShape(fsdp=count), jax.devices()[:count])):
            text = jax.jit(gated).lower(*draws((4, 8))[:2]).as_text()
        assert text.count(f"custom_call @{native.GATED_VALUES}(") == 2 - count
