"""Tokens put into a cache: the kernel is the reference, and works in place where it may."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.kernels import native
from gemwright.kernels.slot_write import slot_scatter, slot_write, slot_write_reference

needs_native = pytest.mark.skipif(not native.available(), reason="the native kernels were not built, or are off")

Inputs = tuple[tuple[jax.Array, ...], tuple[jax.Array, ...], jax.Array, jax.Array]


def inputs(rows: int, slots: int, tokens: int, groups: int, size: int, seed: int = 0) -> Inputs:
    """Three arrays of a cache, of different types and ranks."""
    draw = np.random.default_rng(seed)
    types = ((jnp.bfloat16, (groups, size)), (jnp.float32, (groups,)), (jnp.int8, (groups, size)), (jnp.int32, ()))
    cache = tuple(jnp.asarray(draw.integers(-99, 99, (rows, slots, *rest)), dtype) for dtype, rest in types)
    new = tuple(jnp.asarray(draw.integers(-99, 99, (tokens, *rest)), dtype) for dtype, rest in types)
    at = draw.integers(-1, 3 * slots, tokens)
    return cache, new, jnp.asarray(draw.integers(0, rows, tokens), jnp.int32), jnp.asarray(at, jnp.int32)


@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (1, 5, 12, 2, 3), (3, 9, 4, 1, 5), (4, 2, 9, 3, 4)])
@pytest.mark.parametrize("seed", range(3))
def test_tokens_stand_in_the_slots_of_their_positions_the_last_where_several_do(
    sizes: tuple[int, int, int, int, int], seed: int
) -> None:
    rows, slots, tokens, groups, size = sizes
    cache, new, of, at = inputs(rows, slots, tokens, groups, size, seed)
    expected = [np.array(part) for part in cache]
    for index in range(tokens):
        if at[index] >= 0:
            for part, token in zip(expected, new, strict=True):
                part[int(of[index]), int(at[index]) % slots] = token[index]
    for write in (slot_write, slot_write_reference, slot_scatter):
        for found, wanted in zip(write(cache, new, of, at), expected, strict=True):
            np.testing.assert_array_equal(np.asarray(found), wanted)


@needs_native
def test_a_cache_that_is_given_up_is_written_in_place_and_another_is_kept() -> None:
    cache, *rest = inputs(2, 64, 3, 1, 8)
    before, where = [np.array(part) for part in cache], [part.unsafe_buffer_pointer() for part in cache]
    kept = jax.jit(slot_write)(cache, *rest)
    for part, old, new in zip(cache, before, kept, strict=True):
        np.testing.assert_array_equal(np.asarray(part), old)
        assert new.unsafe_buffer_pointer() not in where
    given = jax.tree.map(jnp.copy, cache)  # NumPy looks into none of these, which JAX would respect
    where = [part.unsafe_buffer_pointer() for part in given]
    written = jax.jit(slot_write, donate_argnums=0)(given, *rest)
    assert [part.unsafe_buffer_pointer() for part in written] == where


@needs_native
def test_a_token_of_no_row_is_refused() -> None:
    cache, new, rows, at = inputs(2, 5, 1, 1, 3)
    with pytest.raises(jax.errors.JaxRuntimeError, match="shapes or rows do not fit"):
        jax.block_until_ready(slot_write(cache, new, rows + 2, jnp.abs(at)))


@needs_native
def test_its_derivative_is_the_references() -> None:
    cache, new, rows, at = inputs(2, 5, 4, 1, 3)

    def loss(write, cache: jax.Array, new: jax.Array) -> jax.Array:
        return jnp.sum(write((cache,), (new,), rows, at)[0].astype(jnp.float32) ** 2)

    found, expected = (
        jax.grad(partial(loss, write), argnums=(0, 1))(cache[0], new[0]) for write in (slot_write, slot_write_reference)
    )
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
