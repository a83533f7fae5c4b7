"""A token put into a cache: the kernel is the reference, and works in place where it may."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.kernels import native
from gemwright.kernels.slot_write import slot_write, slot_write_reference

needs_native = pytest.mark.skipif(not native.available(), reason="the native kernels were not built, or are off")


def inputs(rows: int, slots: int, groups: int, size: int, seed: int = 0) -> tuple[jax.Array, jax.Array, jax.Array]:
    draw = np.random.default_rng(seed)
    cache, tokens = draw.standard_normal((rows, slots, groups, size)), draw.standard_normal((rows, groups, size))
    at = draw.integers(-1, 3 * slots, rows)
    return jnp.asarray(cache, jnp.bfloat16), jnp.asarray(tokens, jnp.bfloat16), jnp.asarray(at, jnp.int32)


@settings(derandomize=True, deadline=None, max_examples=25)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(1, 5), st.integers(0, 99))
def test_a_token_stands_in_the_slot_of_its_position(rows: int, slots: int, groups: int, size: int, seed: int) -> None:
    cache, tokens, at = inputs(rows, slots, groups, size, seed)
    expected = np.array(cache)
    for row in range(rows):
        if at[row] >= 0:
            expected[row, int(at[row]) % slots] = tokens[row]
    for write in (slot_write, slot_write_reference):
        np.testing.assert_array_equal(np.asarray(write(cache, tokens, at)), expected)


@needs_native
def test_a_cache_that_is_given_up_is_written_in_place_and_another_is_kept() -> None:
    cache, tokens, at = inputs(2, 64, 1, 8)
    before, where = np.array(cache), cache.unsafe_buffer_pointer()
    kept = jax.jit(slot_write)(cache, tokens, at)
    np.testing.assert_array_equal(np.asarray(cache), before)
    assert kept.unsafe_buffer_pointer() != where
    assert jax.jit(slot_write, donate_argnums=0)(cache, tokens, at).unsafe_buffer_pointer() == where


@needs_native
def test_its_derivative_is_the_references() -> None:
    cache, tokens, at = inputs(2, 5, 1, 3)

    def loss(write, cache: jax.Array, tokens: jax.Array) -> jax.Array:
        return jnp.sum(write(cache, tokens, at).astype(jnp.float32) ** 2)

    found = jax.grad(lambda *args: loss(slot_write, *args), argnums=(0, 1))(cache, tokens)
    expected = jax.grad(lambda *args: loss(slot_write_reference, *args), argnums=(0, 1))(cache, tokens)
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
