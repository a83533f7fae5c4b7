"""The cache: whatever the sizes of the chunks, attention through it is attention over the whole past."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.core.cache import KVCache, cached_attention, empty_cache
from tests.core import reference
from tests.tolerances import SAME

ROWS, HEADS, GROUPS, SIZE = 2, 4, 2, 6
MOST = 24  # positions a row may reach
CAP = 3.0

attention = jax.jit(cached_attention, static_argnames=("window", "cap"))

chunk = st.sampled_from([1, 3, 8]).flatmap(  # few sizes, for each is compiled; any number of each row's are padding
    lambda size: st.tuples(st.just(size), *[st.integers(0, size)] * ROWS)
)


def past(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys and values of MOST positions."""
    rng = np.random.default_rng(seed)
    shapes = ((ROWS, MOST, heads, SIZE) for heads in (HEADS, GROUPS, GROUPS))
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)  # pyright: ignore


def through_the_cache(
    inputs: tuple[np.ndarray, ...], chunks: list[tuple[int, ...]], slots: int, window: int | None
) -> tuple[np.ndarray, np.ndarray, KVCache]:
    """What came out at each position, how many positions each row has, and the cache.

    A chunk is (size, tokens of the first row, of the second, ...); what is left of a row is padding.
    """
    cache = empty_cache(ROWS, slots, GROUPS, SIZE, jnp.dtype(jnp.float32))
    lengths, out = np.zeros(ROWS, int), np.zeros((ROWS, MOST, HEADS, SIZE))
    row = np.arange(ROWS)[:, None]
    for size, *wanted in chunks:
        counts = np.minimum(wanted, MOST - lengths)[:, None]
        offsets = np.arange(size)
        positions = np.where(offsets < counts, lengths[:, None] + offsets, -1)
        part = [jnp.asarray(values[row, np.maximum(positions, 0)]) for values in inputs]
        mixed, cache = attention(*part, jnp.asarray(positions), cache, window=window, cap=CAP)
        at = positions >= 0
        out[np.broadcast_to(row, at.shape)[at], positions[at]] = np.asarray(mixed)[at]
        lengths += counts[:, 0]
    return out, lengths, cache


def expected(inputs: tuple[np.ndarray, ...], window: int | None) -> np.ndarray:
    at = np.arange(MOST)
    visible = (at <= at[:, None]) & (at > at[:, None] - (window or MOST))
    return reference.attend(*inputs, np.broadcast_to(visible, (ROWS, MOST, MOST)), CAP)


@pytest.mark.parametrize(("slots", "window"), [(5, 5), (MOST, None)])
@settings(deadline=None, max_examples=60)
@given(chunks=st.lists(chunk, max_size=16), seed=st.integers(0, 3))
def test_any_sequence_of_chunks_attends_to_the_whole_window(
    slots: int, window: int | None, chunks: list[tuple[int, ...]], seed: int
) -> None:
    inputs = past(seed)
    out, lengths, cache = through_the_cache(inputs, chunks, slots, window)
    whole = expected(inputs, window)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(out[row, :length], whole[row, :length], rtol=0, atol=SAME)
        held = sorted(position for position in cache.positions[row].tolist() if position >= 0)
        assert held == list(range(max(0, length - slots), length))


@pytest.mark.parametrize("slots", [5, 7, MOST])
def test_a_ring_may_have_more_slots_than_its_window_is_wide(slots: int) -> None:
    inputs = past(0)
    chunks = [(8, 8, 8), (1, 1, 1), (8, 8, 8), (3, 3, 3), (3, 3, 3), (1, 1, 1)]
    out, _, _ = through_the_cache(inputs, chunks, slots, window=5)
    np.testing.assert_allclose(out, expected(inputs, 5), rtol=0, atol=SAME)


def test_a_ring_of_one_slot_too_few_is_wrong() -> None:
    # The comparison above sees a missing slot: position 4 back is overwritten before it is read.
    inputs = past(0)
    out, _, _ = through_the_cache(inputs, [(1, 1, 1)] * MOST, slots=4, window=5)
    assert np.abs(out - expected(inputs, 5)).max() > 1000 * SAME


def test_a_position_stands_in_its_slot_and_padding_in_none() -> None:
    inputs = past(1)
    _, _, cache = through_the_cache(inputs, [(8, 8, 6)], slots=5, window=5)
    assert cache.positions.tolist() == [[5, 6, 7, 3, 4], [5, 1, 2, 3, 4]]
    assert bool((cache.keys[0, 1] == inputs[1][0, 6]).all())
    assert bool((cache.values[1, 0] == inputs[2][1, 5]).all())


def test_an_empty_cache_holds_nothing_and_has_the_asked_type() -> None:
    cache = empty_cache(3, 4, 2, 6, jnp.dtype(jnp.bfloat16))
    assert cache.keys.shape == cache.values.shape == (3, 4, 2, 6)
    assert cache.keys.dtype == jnp.bfloat16
    assert cache.positions.tolist() == [[-1] * 4] * 3


@partial(jax.jit, donate_argnames="cache")
def step(cache: KVCache, x: jax.Array, at: jax.Array) -> KVCache:
    return cached_attention(x[..., :GROUPS, :], x, x, at, cache, 5, None)[1]


def test_a_step_keeps_the_shapes_so_that_a_cache_can_be_donated() -> None:
    cache = empty_cache(1, 5, GROUPS, SIZE, jnp.dtype(jnp.float32))
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), cache)
    after = step(cache, jnp.ones((1, 1, GROUPS, SIZE)), jnp.array([[0]], jnp.int32))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == before
