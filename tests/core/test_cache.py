"""The cache: whatever the sizes of the chunks, attention through it is attention over the whole past."""

from dataclasses import replace
from functools import cache, partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.core.cache import SPARE, KVCache, cached_attention, empty_cache, quantise_heads
from tests.core import reference
from tests.tolerances import CACHE_8_BITS, SAME

ROWS, HEADS, GROUPS, SIZE = 2, 4, 2, 6
MOST = 60  # positions a row may reach
WINDOW, RING = 5, 5 + SPARE
CAP = 3.0

attention = jax.jit(cached_attention, static_argnames=("window", "cap"))

chunk = st.sampled_from(
    [1, 3, 16, 23]
).flatmap(  # few sizes, for each is compiled; any number of each row's are padding
    lambda size: st.tuples(st.just(size), *[st.integers(0, size)] * ROWS)
)


@cache
def past(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Queries, keys and values of MOST positions."""
    rng = np.random.default_rng(seed)
    shapes = ((ROWS, MOST, heads, SIZE) for heads in (HEADS, GROUPS, GROUPS))
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)  # pyright: ignore


def through_the_cache(
    seed: int, chunks: list[tuple[int, ...]], slots: int, window: int | None, bits: int | None = None
) -> tuple[np.ndarray, np.ndarray, KVCache]:
    """What came out at each position, how many positions each row has, and the cache.

    A chunk is (size, tokens of the first row, of the second, ...); what is left of a row is padding.
    """
    kept = empty_cache(ROWS, slots, GROUPS, SIZE, jnp.dtype(jnp.float32), bits)
    lengths, out = np.zeros(ROWS, int), np.zeros((ROWS, MOST, HEADS, SIZE))
    row = np.arange(ROWS)[:, None]
    for size, *wanted in chunks:
        counts = np.minimum(wanted, MOST - lengths)[:, None]
        offsets = np.arange(size)
        positions = np.where(offsets < counts, lengths[:, None] + offsets, -1)
        part = [jnp.asarray(values[row, np.maximum(positions, 0)]) for values in past(seed)]
        mixed, kept = attention(*part, jnp.asarray(positions), kept, window=window, cap=CAP)
        at = positions >= 0
        out[np.broadcast_to(row, at.shape)[at], positions[at]] = np.asarray(mixed)[at]
        lengths += counts[:, 0]
    return out, lengths, kept


@cache
def expected(seed: int, window: int | None) -> np.ndarray:
    at = np.arange(MOST)
    visible = (at <= at[:, None]) & (at > at[:, None] - (window or MOST))
    return reference.attend(*past(seed), np.broadcast_to(visible, (ROWS, MOST, MOST)), CAP)


@pytest.mark.parametrize(("slots", "window"), [(RING, WINDOW), (MOST, None)])
@settings(deadline=None, max_examples=40)
@given(chunks=st.lists(chunk, max_size=16), seed=st.integers(0, 3))
def test_any_sequence_of_chunks_attends_to_the_whole_window(
    slots: int, window: int | None, chunks: list[tuple[int, ...]], seed: int
) -> None:
    out, lengths, kept = through_the_cache(seed, chunks, slots, window)
    whole = expected(seed, window)
    for row, length in enumerate(lengths):
        np.testing.assert_allclose(out[row, :length], whole[row, :length], rtol=0, atol=SAME)
        held = sorted(position for position in kept.positions[row].tolist() if position >= 0)
        assert held == list(range(max(0, length - slots), length))


@pytest.mark.parametrize("slots", [RING, RING + 2, MOST])
def test_a_ring_may_have_more_slots_than_it_needs(slots: int) -> None:
    chunks = [(16, 16, 16), (1, 1, 1), (16, 16, 16), (3, 3, 3), (3, 3, 3), (16, 16, 16)]
    out, lengths, _ = through_the_cache(0, chunks, slots, WINDOW)
    np.testing.assert_allclose(out[:, : lengths[0]], expected(0, WINDOW)[:, : lengths[0]], rtol=0, atol=SAME)


def test_a_ring_of_one_slot_too_few_is_wrong() -> None:
    # The comparison above sees a missing slot: a chunk's last token overwrites what its first one reads.
    chunks = [(16, 16, 16)] * 3
    out, lengths, _ = through_the_cache(0, chunks, RING - 1, WINDOW)
    assert np.abs(out - expected(0, WINDOW))[:, : lengths[0]].max() > 1000 * SAME


def test_a_position_stands_in_its_slot_and_padding_in_none() -> None:
    _, keys, values = past(0)
    _, _, kept = through_the_cache(0, [(23, 23, 6)], slots=RING, window=WINDOW)
    assert kept.positions.tolist() == [[20, 21, 22, *range(3, 20)], [*range(6), *[-1] * 14]]
    assert bool((kept.keys[0, 1] == keys[0, 21]).all())
    assert bool((kept.values[1, 0] == values[1, 0]).all())


def tokens_of(seed: int, rows: list[int], positions: list[int]) -> list[jax.Array]:
    return [jnp.asarray(values[rows, positions][:, None]) for values in past(seed)]


@pytest.mark.parametrize(("slots", "window"), [(RING, WINDOW), (MOST, None)])
def test_tokens_taken_back_leave_no_trace(slots: int, window: int | None) -> None:
    """After 30 positions, 16 others are read and given up; the true ones follow, one, a few and many at once."""
    _, _, kept = through_the_cache(0, [(16, 16, 16), (14, 14, 14)], slots, window)
    wrong = [jnp.asarray(values[:, 10:26]) for values in past(1)]
    at = jnp.broadcast_to(jnp.arange(30, 46), (ROWS, 16))
    _, kept = attention(*wrong, at, kept, window=window, cap=CAP)
    for first, last in ((30, 31), (31, 37), (37, 60)):
        part = [jnp.asarray(values[:, first:last]) for values in past(0)]
        at = jnp.broadcast_to(jnp.arange(first, last), (ROWS, last - first))
        mixed, kept = attention(*part, at, kept, window=window, cap=CAP)
        np.testing.assert_allclose(mixed, expected(0, window)[:, first:last], rtol=0, atol=SAME)


@pytest.mark.parametrize(("slots", "window"), [(RING, WINDOW), (MOST, None)])
def test_a_call_may_read_rows_in_any_order_and_number(slots: int, window: int | None) -> None:
    _, _, kept = through_the_cache(0, [(16, 16, 12)], slots, window)
    rows, positions = [1, 0, 1, 1, 0, 0], [12, 16, 13, 14, 17, -1]
    chosen = replace(kept, rows=jnp.asarray(rows, jnp.int32))
    at = jnp.asarray(positions, jnp.int32)[:, None]
    mixed, after = attention(*tokens_of(0, rows, positions), at, chosen, window=window, cap=CAP)
    np.testing.assert_allclose(mixed[:5, 0], expected(0, window)[rows[:5], positions[:5]], rtol=0, atol=SAME)
    held = [sorted(position for position in row if position >= 0) for row in after.positions.tolist()]
    assert held == [list(range(18)), list(range(15))]


# ----------------------------------------------------------------------------------------- 8 bits


@pytest.mark.parametrize(("slots", "window"), [(RING, WINDOW), (MOST, None)])
def test_a_cache_of_8_bits_is_close_to_one_of_floats(slots: int, window: int | None) -> None:
    chunks = [(23, 23, 12), (1, 1, 1), (16, 16, 9), (3, 2, 3)]
    out, lengths, _ = through_the_cache(0, chunks, slots, window, bits=8)
    for row, length in enumerate(lengths):
        found, exact = out[row, :length], expected(0, window)[row, :length]
        assert SAME < np.abs(found - exact).max() < CACHE_8_BITS * np.abs(exact).max()


def test_a_cache_of_8_bits_gives_the_same_however_its_tokens_come() -> None:
    alone, lengths, _ = through_the_cache(0, [(1, 1, 1)] * 40, RING, WINDOW, bits=8)
    for chunks in ([(16, 16, 16)] * 2 + [(3, 3, 3)] * 2, [(23, 23, 23), (16, 16, 16)]):
        out, lengths, _ = through_the_cache(0, chunks, RING, WINDOW, bits=8)
        np.testing.assert_allclose(out[:, : lengths[0]], alone[:, : lengths[0]], rtol=0, atol=SAME)


def test_codes_are_within_half_a_step_of_their_values() -> None:
    x = past(0)[1]
    codes, scales = quantise_heads(jnp.asarray(x))
    assert codes.dtype == jnp.int8
    assert np.abs(np.asarray(codes)).max() == 127
    error = np.abs(np.asarray(codes, np.float32) * np.asarray(scales)[..., None] - x)
    assert (error <= 0.501 * np.asarray(scales)[..., None]).all()
    zero = quantise_heads(jnp.zeros((1, 4)))
    assert not any(np.asarray(part).any() for part in zero)


def test_a_cache_of_8_bits_takes_half_the_memory() -> None:
    def size(bits: int | None) -> int:
        shapes = jax.eval_shape(lambda: empty_cache(1, 64, 1, 256, jnp.dtype(jnp.bfloat16), bits))
        return sum(
            leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves((shapes.keys, shapes.values, shapes.scales))
        )

    assert size(8) / size(None) == 0.5 + 4 / 512


def test_another_number_of_bits_is_refused() -> None:
    with pytest.raises(ValueError, match="expected 8 or none, found 4"):
        empty_cache(1, 4, 1, 8, jnp.dtype(jnp.float32), 4)


def test_an_empty_cache_holds_nothing_and_has_the_asked_type() -> None:
    empty = empty_cache(3, 4, 2, 6, jnp.dtype(jnp.bfloat16))
    assert empty.keys.shape == empty.values.shape == (3, 4, 2, 6)
    assert empty.keys.dtype == jnp.bfloat16
    assert empty.positions.tolist() == [[-1] * 4] * 3


@partial(jax.jit, donate_argnames="kept")
def step(kept: KVCache, x: jax.Array, at: jax.Array) -> KVCache:
    return cached_attention(x, x, x, at, kept, 5, None)[1]


def test_a_step_keeps_the_shapes_so_that_a_cache_can_be_donated() -> None:
    kept = empty_cache(1, RING, GROUPS, SIZE, jnp.dtype(jnp.float32))
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), kept)
    after = step(kept, jnp.ones((1, 1, GROUPS, SIZE)), jnp.array([[0]], jnp.int32))
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), after) == before
