"""The gated recurrence, native and in plain JAX: both are a loop in float64, over padding and several documents."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.kernels import native
from gemwright.kernels.gated_recurrence import Gates, Place, gated_recurrence, gated_recurrence_reference
from tests.kernels.test_packed_product import LEVELS, needs_native
from tests.tolerances import SAME

Arguments = tuple[jax.Array, Gates, jax.Array, jax.Array, jax.Array]


def arguments(
    rows: int, tokens: int, blocks: int, size: int, dtype: jnp.dtype = jnp.float32, seed: int = 0
) -> Arguments:
    """All kinds of places in any order; gates from shut to open."""
    draw = np.random.default_rng(seed)
    width = blocks * size

    def normal(*shape: int) -> jax.Array:
        return jnp.asarray(draw.standard_normal(shape), jnp.float32)

    def gate() -> jax.Array:
        return (normal(blocks, size, size) / np.sqrt(size)).astype(dtype)

    gates = Gates(gate(), normal(blocks, size), gate(), normal(blocks, size))
    places = jnp.asarray(draw.integers(0, len(Place), (rows, tokens)), jnp.int32)
    return normal(rows, tokens, width), gates, jnp.abs(normal(width)), places, normal(rows, width)


def exact(x: jax.Array, gates: Gates, rate: jax.Array, places: jax.Array, start: jax.Array) -> np.ndarray:
    wide, rates, state = (np.asarray(part, np.float64) for part in (x, rate, start))
    out = np.zeros(wide.shape)
    for t in range(wide.shape[1]):
        place = np.asarray(places)[:, t, None]
        opened = opening(wide[:, t], gates.input, gates.input_bias)
        decay = np.exp(-rates * opening(wide[:, t], gates.decay, gates.decay_bias))
        scaled = np.where(place == Place.FIRST, 1, np.sqrt(1 - decay**2)) * opened * wide[:, t]
        moved = np.where(place == Place.GOES_ON, decay * state, 0) + scaled
        state = out[:, t] = np.where(place == Place.PADDING, state, moved)
    return out


def opening(x: np.ndarray, blocks: jax.Array, bias: jax.Array) -> np.ndarray:
    apart = x.reshape(len(x), *bias.shape)
    sums = np.einsum("rhi,hio->rho", apart, np.asarray(blocks, np.float64)) + np.asarray(bias, np.float64)
    return 1 / (1 + np.exp(-sums.reshape(x.shape)))


def check(given: Arguments) -> None:
    out = gated_recurrence(*given)
    assert out.dtype == jnp.float32
    np.testing.assert_allclose(np.asarray(out), exact(*given), rtol=0, atol=SAME)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; skips those that this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        gated_recurrence(*arguments(1, 1, 1, 1)).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if f"does not support {request.param}" not in str(error):
            raise
        pytest.skip(f"this processor does not support {request.param}")
    return request.param


@needs_native
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("sizes", [(1, 1, 2, 150), (3, 7, 2, 37), (2, 1, 3, 16)])
def test_each_level_is_the_float64_loop(level: str, sizes: tuple[int, int, int, int], dtype: jnp.dtype) -> None:
    check(arguments(*sizes, dtype))


@needs_native
@settings(max_examples=10, deadline=None)
@given(
    sizes=st.tuples(st.integers(1, 3), st.integers(1, 6), st.integers(1, 3), st.integers(1, 40)), seed=st.integers(0, 9)
)
def test_any_shape(sizes: tuple[int, int, int, int], seed: int) -> None:
    check(arguments(*sizes, seed=seed))


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
@pytest.mark.parametrize("tokens", [1, 9])
def test_the_reference_is_the_float64_loop(tokens: int, dtype: jnp.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "off")
    check(arguments(2, tokens, 2, 13, dtype))


@pytest.mark.parametrize("switch", ["", "off"])
def test_what_is_no_number_does_not_pass_padding_nor_a_beginning(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, switch)
    x, gates, rate, _, start = arguments(2, 3, 1, 20)
    places = jnp.asarray([[Place.FIRST, Place.PADDING, Place.GOES_ON], [Place.ALONE, Place.GOES_ON, Place.PADDING]])
    padding = (places == Place.PADDING)[..., None]
    dirty = jnp.where(padding, jnp.nan, x), gates, rate, places.astype(jnp.int32), jnp.full_like(start, jnp.nan)
    clean = jnp.where(padding, 0, x), gates, rate, places.astype(jnp.int32), start
    np.testing.assert_array_equal(np.asarray(gated_recurrence(*dirty)), np.asarray(gated_recurrence(*clean)))


@needs_native
def test_a_token_alone_is_as_among_others() -> None:
    # Alone it goes another way through the kernel. Each channel sums in the same order, so to rounding they agree.
    x, gates, rate, _, start = arguments(1, 6, 2, 150, jnp.bfloat16)
    places = jnp.full((1, 6), Place.GOES_ON, jnp.int32)
    whole = gated_recurrence(x, gates, rate, places, start)
    for t in range(6):
        start = gated_recurrence(x[:, t : t + 1], gates, rate, places[:, :1], start)[:, 0]
        np.testing.assert_allclose(np.asarray(start), np.asarray(whole[:, t]), rtol=0, atol=SAME)


@pytest.mark.parametrize("switch", ["", "off"])
def test_gradients_are_the_references(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, switch)
    x, gates, rate, places, start = arguments(2, 5, 2, 7)

    def loss(function, x: jax.Array, gates: Gates, rate: jax.Array, start: jax.Array) -> jax.Array:
        return jnp.sum(jnp.sin(function(x, gates, rate, places, start)))

    found, expected = (
        jax.grad(lambda *given, f=f: loss(f, *given), argnums=(0, 1, 2, 3))(x, gates, rate, start)
        for f in (gated_recurrence, gated_recurrence_reference)
    )
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=0, atol=SAME), found, expected
    )
