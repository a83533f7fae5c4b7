"""The loops that measure the machine do all the work that their speed is computed from."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.kernels import machine_limits, native
from gemwright.kernels.machine_limits import (
    PAIRS,
    REPEATS,
    float32_peak,
    float_products,
    float_products_reference,
    int8_peak,
    int_products,
    int_products_reference,
    matrix_peak,
    matrix_products,
    matrix_products_reference,
    read_all,
    read_all_reference,
    read_bandwidth,
)

needs_native = pytest.mark.skipif(not native.available(), reason="the native kernels were not built, or are off")
LEVELS = ("portable", "avx2", "avx512", "amx")


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """An instruction set of this processor."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        read_all(jnp.zeros(1)).block_until_ready()
    except jax.errors.JaxRuntimeError:
        pytest.skip(f"this processor has no {request.param}")
    return request.param


def lines(*arrays: np.ndarray) -> np.ndarray:
    words = np.zeros(16, np.uint32)
    for array in arrays:
        raw = array.tobytes()
        padded = np.frombuffer(raw + bytes(-len(raw) % 64), np.uint32)
        words ^= np.bitwise_xor.reduce(padded.reshape(-1, 16), axis=0)
    return words


@settings(derandomize=True, deadline=None, max_examples=20)
@given(st.lists(st.integers(1, 300), min_size=1, max_size=3), st.integers(0, 99))
def test_every_byte_of_every_array_is_read(sizes: list[int], seed: int) -> None:
    arrays = [np.random.default_rng([seed, size]).integers(0, 256, size, np.uint8) for size in sizes]
    for read in (read_all, partial(read_all, four=True), read_all_reference):
        np.testing.assert_array_equal(np.asarray(read(*map(jnp.asarray, arrays))), lines(*arrays))


@needs_native
def test_large_arrays_are_read_by_each_instruction_set(level: str) -> None:
    draw = np.random.default_rng(0)
    arrays = [draw.integers(0, 256, (3 << 20) + 17, np.uint8), draw.standard_normal((513, 7), np.float32)]
    for four in (False, True):
        np.testing.assert_array_equal(np.asarray(read_all(*map(jnp.asarray, arrays), four=four)), lines(*arrays))


@pytest.mark.skipif(not native.has_matrix_unit(), reason="this processor has no matrix unit")
def test_products_of_the_matrix_unit_are_all_computed() -> None:
    draw = np.random.default_rng(0)
    left, right = (jnp.asarray(draw.integers(-4, 5, 512), jnp.bfloat16) for _ in range(2))
    arguments = left.reshape(16, 32), right.reshape(16, 16, 2), 3, 7
    np.testing.assert_array_equal(matrix_products(*arguments), matrix_products_reference(*arguments))
    assert (matrix_peak() or 0) > 1e9


@needs_native
def test_products_are_all_computed_by_each_instruction_set(level: str) -> None:
    draw = np.random.default_rng(0)
    for _ in range(10):
        codes = jnp.asarray(draw.integers(0, 16, PAIRS), jnp.uint8)
        x = jnp.asarray(draw.integers(-127, 128, PAIRS), jnp.int8)
        found = int_products(codes, x, 3, 7)
        np.testing.assert_array_equal(found, int_products_reference(codes, x, 3, 7))
        assert int(found[0]) == int(np.asarray(codes, int) @ np.asarray(x, int)) * 7 * REPEATS % 2**32


@needs_native
def test_the_largest_products_do_not_overflow_within(level: str) -> None:
    codes, x = jnp.full(PAIRS, 15, jnp.uint8), jnp.full(PAIRS, -127, jnp.int8)
    np.testing.assert_array_equal(int_products(codes, x, 1, 9), int_products_reference(codes, x, 1, 9))


@needs_native
def test_float_products_are_all_computed_by_each_instruction_set(level: str) -> None:
    weights = jnp.arange(PAIRS, dtype=jnp.float32) / 8  # sums of eighths are exact
    x = weights - 3
    np.testing.assert_array_equal(float_products(weights, x, 3, 7), float_products_reference(weights, x, 3, 7))


def test_limits_are_work_done_over_the_shortest_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine_limits, "_best_seconds", lambda action: 0.5)
    assert read_bandwidth([jnp.zeros((8, 4), jnp.bfloat16), jnp.zeros(16)]) == (64 + 64) / 0.5


@needs_native
def test_peaks_are_there_with_the_library() -> None:
    assert (int8_peak() or 0) > 1e8
    assert (float32_peak() or 0) > 1e8


def test_without_the_library_there_is_a_bandwidth_and_no_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, "off")
    assert int8_peak() is None
    assert float32_peak() is None
    assert matrix_peak() is None
    assert read_bandwidth([jnp.zeros(1 << 16)]) > 0
