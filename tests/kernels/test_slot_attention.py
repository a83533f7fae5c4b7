"""Attention over a cache: each level is the float64 softmax over what a query sees, whatever stands in other slots."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.core.cache import quantise_heads
from gemwright.kernels import native
from gemwright.kernels.slot_attention import slot_attention, slot_attention_reference, widen
from tests.core import reference
from tests.tolerances import SAME

LEVELS = ("portable", "avx2", "avx512")
like_a_property = settings(derandomize=True, deadline=None, max_examples=15)

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


def inputs(
    rows: int, slots: int, groups: int, heads: int, size: int, seed: int = 0, cell: str = "bfloat16", tokens: int = 1
) -> tuple[Any, ...]:
    """A cache with empty slots and later positions among the filled, NaN in floats wherever nobody may look; some
    tokens of each row, beside each other."""
    draw = np.random.default_rng(seed)
    at = np.sort(draw.integers(0, 2 * slots, (rows, tokens)), axis=1)
    positions = draw.permuted(np.broadcast_to(np.arange(slots) * 2, (rows, slots)), axis=1)
    positions = np.where(draw.random((rows, slots)) < 0.3, -1, positions)
    positions[:, 0] = at[:, 0]  # a key that each of its tokens may see
    hidden = (positions < 0) | (positions > at.max(axis=1, keepdims=True))
    keys, values = draw.standard_normal((2, rows, slots, groups, size))
    scales = None
    if cell == "int8":
        (keys, key_scales), (values, value_scales) = (
            quantise_heads(jnp.asarray(keys)),
            quantise_heads(jnp.asarray(values)),
        )
        scales = tuple(jnp.where(hidden[..., None], np.nan, part) for part in (key_scales, value_scales))
    else:
        keys[hidden], values[hidden] = np.nan, np.nan
    queries = 2 * draw.standard_normal((rows * tokens, groups * heads, size)) / np.sqrt(size)
    cache = (jnp.asarray(part, jnp.dtype(cell)) for part in (keys, values))
    of_tokens = jnp.repeat(jnp.arange(rows, dtype=jnp.int32), tokens), jnp.asarray(at.reshape(-1), jnp.int32)
    return jnp.asarray(queries, jnp.float32), *cache, scales, of_tokens, jnp.asarray(positions, jnp.int32)


def exact(*arguments: Any, window: int | None, cap: float | None) -> np.ndarray:
    queries, keys, values, scales, (rows, at), positions = arguments
    scales = scales or (None, None)
    keys, values = (np.nan_to_num(np.asarray(widen(*part))) for part in ((keys, scales[0]), (values, scales[1])))
    rows, at, held = np.asarray(rows), np.asarray(at), np.asarray(positions)[np.asarray(rows)]
    seen = (held >= 0) & (held <= at[:, None])
    if window is not None:
        seen &= held > at[:, None] - window
    return reference.attend(np.asarray(queries)[:, None], keys[rows], values[rows], seen[:, None], cap)[:, 0]


def check(sizes: tuple[int, ...], window: int | None, cap: float | None, seed: int = 0, **options: Any) -> None:
    arguments = inputs(*sizes, seed, **options)
    found = np.asarray(slot_attention(*arguments, window, cap))
    np.testing.assert_allclose(found, exact(*arguments, window=window, cap=cap), rtol=0, atol=SAME)


CELLS = ("bfloat16", "float32", "int8")


@needs_native
@pytest.mark.parametrize("cap", [None, 2.0, 50.0])
@pytest.mark.parametrize("window", [None, 1, 40])
@pytest.mark.parametrize("sizes", [(1, 300, 1, 8, 64), (3, 130, 2, 5, 37), (2, 1, 3, 1, 3)])
def test_each_level_is_attention_in_float64(
    level: str, sizes: tuple[int, ...], window: int | None, cap: float | None
) -> None:
    for number, cell in enumerate(CELLS):
        check(sizes, window, cap, cell=cell, tokens=1 + 2 * number)


@needs_native
@like_a_property
@given(
    rows=st.integers(1, 3), slots=st.integers(1, 300), groups=st.integers(1, 3), heads=st.integers(1, 9),
    size=st.integers(1, 40), window=st.none() | st.integers(1, 50), cap=st.none() | st.just(3.0),
    seed=st.integers(0, 99), cell=st.sampled_from(CELLS), tokens=st.integers(1, 20),
)  # fmt: skip
def test_any_shape(
    rows: int, slots: int, groups: int, heads: int, size: int, window: int | None, cap: float | None, seed: int,
    cell: str, tokens: int,
) -> None:  # fmt: skip
    check((rows, slots, groups, heads, size), window, cap, seed, cell=cell, tokens=tokens)


@needs_native
@pytest.mark.parametrize("cell", CELLS)
def test_a_tokens_result_is_the_same_to_the_bit_whatever_stands_beside_it(level: str, cell: str) -> None:
    """So that guesses checked together are judged as if each were read alone."""
    queries, keys, values, scales, (rows, at), positions = inputs(2, 300, 2, 3, 21, cell=cell, tokens=17)
    together = np.asarray(slot_attention(queries, keys, values, scales, (rows, at), positions, 90, 3.0))
    for index in range(0, len(at), 3):
        one = slice(index, index + 1)
        alone = slot_attention(queries[one], keys, values, scales, (rows[one], at[one]), positions, 90, 3.0)
        np.testing.assert_array_equal(np.asarray(alone)[0], together[index])


@needs_native
def test_a_token_of_no_row_is_refused() -> None:
    queries, keys, values, scales, (rows, at), positions = inputs(2, 9, 1, 1, 4)
    with pytest.raises(jax.errors.JaxRuntimeError, match="a token of no row"):
        slot_attention(queries, keys, values, scales, (rows + 1, at), positions, None, None).block_until_ready()


@needs_native
def test_scores_far_apart_neither_overflow_nor_vanish(level: str) -> None:
    queries, *rest = inputs(1, 200, 1, 2, 32)
    for scale in (1e3, -1e3):
        arguments = (queries * scale, *rest)
        found = np.asarray(slot_attention(*arguments, None, None))
        # Scores of some thousands have errors of 1e-4 in float32, and so have their exponentials.
        np.testing.assert_allclose(found, exact(*arguments, window=None, cap=None), rtol=0, atol=1e-3)


@needs_native
def test_a_row_that_sees_nothing_is_zero(level: str) -> None:
    queries, keys, values, scales, (rows, at), positions = inputs(2, 150, 1, 4, 16, tokens=3)
    at = at.at[1].set(-1)
    arguments = queries, keys, values, scales, (rows, at), positions
    found = np.asarray(slot_attention(*arguments, None, None))
    assert not found[1].any()
    np.testing.assert_allclose(found, exact(*arguments, window=None, cap=None), rtol=0, atol=SAME)


def test_off_is_the_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = jax.tree.map(jnp.nan_to_num, inputs(2, 90, 2, 3, 20, tokens=2))
    monkeypatch.setenv(native.VARIABLE, "off")
    found = slot_attention(*arguments, 30, 3.0)
    assert bool((found == slot_attention_reference(*arguments, 30, 3.0)).all())
    np.testing.assert_allclose(np.asarray(found), exact(*arguments, window=30, cap=3.0), rtol=0, atol=SAME)


def test_derivatives_and_vmap_are_the_references() -> None:
    queries, *rest = jax.tree.map(jnp.nan_to_num, inputs(2, 30, 1, 3, 8))
    found = jax.grad(lambda q: jnp.sum(slot_attention(q, *rest, None, 3.0) ** 2))(queries)
    expected = jax.grad(lambda q: jnp.sum(slot_attention_reference(q, *rest, None, 3.0) ** 2))(queries)
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=0, atol=SAME)
    twice = jax.vmap(lambda q: slot_attention(q, *rest, None, 3.0))(jnp.stack([queries, -queries]))
    np.testing.assert_allclose(
        np.asarray(twice[1]), np.asarray(slot_attention(-queries, *rest, None, 3.0)), rtol=0, atol=SAME
    )
