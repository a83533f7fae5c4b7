"""Attention over a cache: each level is the float64 softmax over what a query sees, whatever stands in other slots."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.kernels import native
from gemwright.kernels.slot_attention import slot_attention, slot_attention_reference
from tests.core import reference
from tests.tolerances import SAME

LEVELS = ("portable", "avx2", "avx512")
like_a_property = settings(derandomize=True, deadline=None, max_examples=25)

needs_native = pytest.mark.skipif(not native.available(), reason="the native kernels were not built, or are off")


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; skips those that this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        slot_attention(*inputs(1, 1, 1, 1, 1), None, None).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if f"does not support {request.param}" not in str(error):
            raise
        pytest.skip(f"this processor does not support {request.param}")
    return request.param


def inputs(rows: int, slots: int, groups: int, heads: int, size: int, seed: int = 0) -> tuple[jax.Array, ...]:
    """A cache with empty slots and later positions among the filled; NaN wherever nobody may look."""
    draw = np.random.default_rng(seed)
    at = draw.integers(0, 2 * slots, rows)
    positions = draw.permuted(np.broadcast_to(np.arange(slots) * 2, (rows, slots)), axis=1)
    positions = np.where(draw.random((rows, slots)) < 0.3, -1, positions)
    positions[:, 0] = at  # the query's own key
    hidden = (positions < 0) | (positions > at[:, None])
    keys, values = draw.standard_normal((2, rows, slots, groups, size))
    keys[hidden], values[hidden] = np.nan, np.nan
    queries = 2 * draw.standard_normal((rows, groups * heads, size)) / np.sqrt(size)
    floats = (jnp.asarray(queries, jnp.float32), *(jnp.asarray(part, jnp.bfloat16) for part in (keys, values)))
    return *floats, jnp.asarray(at, jnp.int32), jnp.asarray(positions, jnp.int32)


def exact(*arguments: jax.Array, window: int | None, cap: float | None) -> np.ndarray:
    queries, keys, values = (np.nan_to_num(np.asarray(part, np.float64)) for part in arguments[:3])
    at, positions = (np.asarray(part) for part in arguments[3:])
    seen = (positions >= 0) & (positions <= at[:, None])
    if window is not None:
        seen &= positions > at[:, None] - window
    return reference.attend(queries[:, None], keys, values, seen[:, None], cap)[:, 0]


def check(sizes: tuple[int, ...], window: int | None, cap: float | None, seed: int = 0) -> None:
    arguments = inputs(*sizes, seed)
    found = np.asarray(slot_attention(*arguments, window, cap))
    np.testing.assert_allclose(found, exact(*arguments, window=window, cap=cap), rtol=0, atol=SAME)


@needs_native
@pytest.mark.parametrize("cap", [None, 2.0, 50.0])
@pytest.mark.parametrize("window", [None, 1, 40])
@pytest.mark.parametrize("sizes", [(1, 300, 1, 8, 64), (3, 130, 2, 5, 37), (2, 1, 3, 1, 3)])
def test_each_level_is_attention_in_float64(
    level: str, sizes: tuple[int, ...], window: int | None, cap: float | None
) -> None:
    check(sizes, window, cap)


@needs_native
@like_a_property
@given(
    rows=st.integers(1, 3), slots=st.integers(1, 300), groups=st.integers(1, 3), heads=st.integers(1, 9),
    size=st.integers(1, 40), window=st.none() | st.integers(1, 50), cap=st.none() | st.just(3.0),
    seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape(
    rows: int, slots: int, groups: int, heads: int, size: int, window: int | None, cap: float | None, seed: int
) -> None:
    check((rows, slots, groups, heads, size), window, cap, seed)


@needs_native
def test_scores_far_apart_neither_overflow_nor_vanish(level: str) -> None:
    queries, keys, values, at, positions = inputs(1, 200, 1, 2, 32)
    for scale in (1e3, -1e3):
        arguments = (queries * scale, keys, values, at, positions)
        found = np.asarray(slot_attention(*arguments, None, None))
        # Scores of some thousands have errors of 1e-4 in float32, and so have their exponentials.
        np.testing.assert_allclose(found, exact(*arguments, window=None, cap=None), rtol=0, atol=1e-3)


@needs_native
def test_a_row_that_sees_nothing_is_zero(level: str) -> None:
    queries, keys, values, at, positions = inputs(2, 150, 1, 4, 16)
    at = at.at[0].set(-1)
    found = np.asarray(slot_attention(queries, keys, values, at, positions, None, None))
    assert not found[0].any()
    expected = exact(queries, keys, values, at, positions, window=None, cap=None)
    np.testing.assert_allclose(found[1], expected[1], rtol=0, atol=SAME)


def test_off_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = tuple(jnp.nan_to_num(part) for part in inputs(2, 90, 2, 3, 20))
    monkeypatch.setenv(native.VARIABLE, "off")
    found = slot_attention(*arguments, 30, 3.0)
    assert bool((found == slot_attention_reference(*arguments, 30, 3.0)).all())
    np.testing.assert_allclose(np.asarray(found), exact(*arguments, window=30, cap=3.0), rtol=0, atol=SAME)


def test_derivatives_and_vmap_are_the_references() -> None:
    queries, *rest = (jnp.nan_to_num(part) for part in inputs(2, 30, 1, 3, 8))
    found = jax.grad(lambda q: jnp.sum(slot_attention(q, *rest, None, 3.0) ** 2))(queries)
    expected = jax.grad(lambda q: jnp.sum(slot_attention_reference(q, *rest, None, 3.0) ** 2))(queries)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=SAME)
    twice = jax.vmap(lambda q: slot_attention(q, *rest, None, 3.0))(jnp.stack([queries, -queries]))
    np.testing.assert_allclose(
        np.asarray(twice[1]), np.asarray(slot_attention(-queries, *rest, None, 3.0)), rtol=0, atol=SAME
    )
