"""The packed product: the layout holds what was packed, and each level is the float64 sum of what it stands for."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.kernels import native
from gemwright.kernels.packed_product import (
    GROUP,
    pack,
    packed_products,
    packed_products_reference,
    quantise_rows,
    unpack,
    unpack_rows,
)
from tests.tolerances import SAME

LEVELS = ("portable", "avx2", "avx512", "amx")
RANGE = {4: (-8, 7), 8: (-127, 127)}
sizes = {"outs": st.integers(1, 40), "ins": st.integers(1, 100), "bits": st.sampled_from([4, 8])}
like_a_property = settings(derandomize=True, deadline=None, max_examples=25)

needs_native = pytest.mark.skipif(not native.available(), reason="the native kernels were not built, or are off")


def codes_and_scales(outs: int, ins: int, bits: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes over their whole range, the ends included, and scales that make products about 1."""
    draw = np.random.default_rng(seed)
    least, most = RANGE[bits]
    codes = draw.integers(least, most + 1, (outs, ins)).astype(np.int8)
    codes.ravel()[:2] = RANGE[bits][: codes.size]
    scales = draw.uniform(-1, 1, (outs, -(-ins // GROUP))) / (most * np.sqrt(ins))
    return codes, scales.astype(np.float16)


def values(codes: np.ndarray, scales: np.ndarray) -> np.ndarray:
    return codes * np.repeat(scales.astype(np.float64), GROUP, axis=1)[:, : codes.shape[1]]


def packed(outs: int, ins: int, bits: int, seed: int = 0) -> tuple[jax.Array, jax.Array]:
    codes, scales = pack(*codes_and_scales(outs, ins, bits, seed), bits)
    return jnp.asarray(codes), jnp.asarray(scales)


needs_unit = pytest.mark.skipif(not native.has_matrix_unit(), reason="this processor has no matrix unit")


# Compiled whole: hypothesis brings many shapes, and each operation by itself would be compiled for each.
unpacked = jax.jit(unpack, static_argnums=(2, 3))
unpacked_rows = jax.jit(unpack_rows, static_argnums=3)
quantised = jax.jit(quantise_rows)


def packed_product(rows: jax.Array, codes: jax.Array, scales: jax.Array, outs: int) -> jax.Array:
    """With one matrix."""
    return packed_products(rows, ((codes, scales),), (outs,))[0]


def rows_of(n: int, ins: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal((n, ins)), jnp.float32)


def rounded(rows: jax.Array) -> np.ndarray:
    codes, scales = (np.asarray(part, np.float64) for part in quantised(rows))
    return (codes.reshape(*scales.shape, GROUP) * scales[..., None]).reshape(len(codes), -1)[:, : rows.shape[1]]


def check(n: int, outs: int, ins: int, bits: int) -> None:
    rows, matrix = rows_of(n, ins), packed(outs, ins, bits)
    expected = rounded(rows) @ values(*codes_and_scales(outs, ins, bits)).T
    np.testing.assert_allclose(np.asarray(packed_product(rows, *matrix, outs)), expected, rtol=0, atol=SAME)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; skips those that this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        packed_product(rows_of(1, 1), *packed(1, 1, 4), 1).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if f"does not support {request.param}" not in str(error):
            raise
        pytest.skip(f"this processor does not support {request.param}")
    return request.param


@like_a_property
@given(**sizes)
def test_a_packed_matrix_holds_the_values_it_was_made_of(outs: int, ins: int, bits: int) -> None:
    matrix, expected = packed(outs, ins, bits), values(*codes_and_scales(outs, ins, bits))
    np.testing.assert_allclose(np.asarray(unpacked(*matrix, outs, ins)), expected, rtol=0, atol=1e-7)
    index = jnp.asarray([[outs - 1, 0], [0, outs // 2]])
    found = unpacked_rows(*matrix, index, ins)
    np.testing.assert_array_equal(np.asarray(found), np.asarray(unpacked(*matrix, outs, ins))[np.asarray(index)])


@pytest.mark.parametrize("bits", [4, 8])
def test_a_packed_matrix_takes_its_bits_and_a_float16_for_32_weights(bits: int) -> None:
    codes, scales = packed(48, 96, bits)
    assert codes.nbytes == 48 * 96 * bits // 8
    assert scales.nbytes == 48 * 96 // 32 * 2


@like_a_property
@given(n=st.integers(1, 20), ins=st.integers(1, 80), seed=st.integers(0, 99))
def test_rounded_rows_are_within_half_a_step(n: int, ins: int, seed: int) -> None:
    rows = rows_of(n, ins, seed).at[0].set(0.0)
    steps = np.repeat(np.asarray(quantised(rows)[1]), GROUP, axis=1)[:, :ins]
    assert (np.abs(rounded(rows) - np.asarray(rows)) <= 0.501 * steps).all()


@needs_native
@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("n", [*range(1, 10), 17])
def test_each_level_is_the_float64_sum(level: str, n: int, bits: int) -> None:
    # 83 and 37 are multiples of no group and no tile.
    check(n, 37, 83, bits)


@needs_native
@like_a_property
@given(n=st.integers(1, 12), **sizes)
def test_any_shape(n: int, outs: int, ins: int, bits: int) -> None:
    check(n, outs, ins, bits)


@needs_native
@pytest.mark.parametrize("bits", [4, 8])
def test_extreme_values_do_not_overflow(level: str, bits: int) -> None:
    for code in RANGE[bits]:
        for sign in (1.0, -1.0):
            codes = jnp.asarray(pack(np.full((16, 64), code, np.int8), np.ones((16, 2), np.float16), bits)[0])
            scales = jnp.ones((1, 2, 16), jnp.float16)
            out = packed_product(jnp.full((3, 64), sign * 127.0), codes, scales, 16)
            assert (np.asarray(out) == sign * 127 * 64 * code).all()


@needs_native
@pytest.mark.parametrize("bits", [4, 8])
def test_many_chunks_for_many_threads(level: str, bits: int) -> None:
    check(5, 1031, 1000, bits)


@pytest.mark.parametrize("switch", ["", "off"])
@pytest.mark.parametrize("bits", [4, 8])
def test_the_product_is_the_reference_whichever_runs(switch: str, bits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, switch)
    rows, matrix = rows_of(5, 200).astype(jnp.bfloat16), packed(33, 200, bits)
    for typed in (rows, rows.astype(jnp.float32)):
        (found,) = packed_products(typed, (matrix,), (33,))
        (reference,) = packed_products_reference(typed, (matrix,), (33,))
        assert found.dtype == reference.dtype == typed.dtype
        # of bfloat16 results the last of 8 bits may differ
        atol = SAME if typed.dtype == jnp.float32 else 2.0**-7 * np.abs(np.asarray(reference, np.float32)).max()
        np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(reference, np.float32), rtol=0, atol=atol)


def test_gradients_are_those_of_the_unpacked_product() -> None:
    rows, matrix = rows_of(3, 40), packed(7, 40, 4)
    step = jnp.linspace(-1, 1, 21).reshape(3, 7)
    found = jax.grad(lambda rows: jnp.sum(step * packed_product(rows, *matrix, 7)))(rows)
    np.testing.assert_allclose(np.asarray(found), np.asarray(step @ unpack(*matrix, 7, 40)), rtol=0, atol=SAME)


def test_vmap_over_rows_and_over_matrices() -> None:
    rows, matrices = rows_of(6, 40).reshape(3, 2, 40), [packed(7, 40, 8, seed) for seed in range(3)]
    codes, scales = (jnp.stack(parts) for parts in zip(*matrices, strict=True))
    found = jax.vmap(lambda rows, codes, scales: packed_product(rows, codes, scales, 7))(rows, codes, scales)
    for one, part, matrix in zip(found, rows, matrices, strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(packed_product(part, *matrix, 7)), rtol=0, atol=SAME)


@pytest.mark.parametrize("n", [1, 3, 9])
def test_matrices_of_any_bits_in_one_call_are_as_each_alone(level: str, n: int) -> None:
    rows, outs = rows_of(n, 83), (37, 5, 64)
    matrices = tuple(packed(out, 83, bits, seed) for seed, (out, bits) in enumerate(zip(outs, (4, 8, 4), strict=True)))
    together = packed_products(rows, matrices, outs)
    for found, matrix, out in zip(together, matrices, outs, strict=True):
        np.testing.assert_array_equal(np.asarray(found), np.asarray(packed_product(rows, *matrix, out)))


@needs_native
@pytest.mark.parametrize("wrong", [jnp.nan, jnp.inf, -jnp.inf])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_what_is_not_a_number_stays_none(level: str, wrong: float, dtype: jnp.dtype) -> None:
    rows = rows_of(6, 70).at[2, 40].set(wrong).astype(dtype)
    found = np.asarray(packed_product(rows, *packed(20, 70, 4), 20), np.float32)
    assert np.isnan(found[2]).all()
    assert np.isfinite(np.delete(found, 2, axis=0)).all()


def test_rows_of_another_type_are_refused() -> None:
    with pytest.raises(TypeError, match="packed_products wants"):
        packed_product(rows_of(1, 64).astype(jnp.float16), *packed(16, 64, 4), 16)


@pytest.mark.parametrize(("bits", "code"), [(4, 8), (4, -9), (8, -128)])
def test_codes_out_of_range_are_refused(bits: int, code: int) -> None:
    with pytest.raises(ValueError, match="codes: expected"):
        pack(np.full((1, 32), code, np.int8), np.ones((1, 1), np.float16), bits)


def test_another_width_is_refused() -> None:
    with pytest.raises(ValueError, match="bits: expected 4 or 8, found 3"):
        pack(np.zeros((1, 32), np.int8), np.ones((1, 1), np.float16), 3)


def test_shapes_that_do_not_fit_are_refused() -> None:
    codes, scales = packed(16, 64, 4)
    for rows, outs in ((rows_of(1, 65), 16), (rows_of(1, 64), 17), (rows_of(1, 64)[0], 16)):
        with pytest.raises(TypeError, match="packed_products wants"):
            packed_product(rows, codes, scales, outs)


def halves(values: np.ndarray) -> np.ndarray:
    """Rounded to bfloat16, in float64."""
    return np.asarray(jnp.asarray(values, jnp.float32).astype(jnp.bfloat16).astype(jnp.float32), np.float64)


def by_the_unit(rows: jax.Array, matrix: tuple[jax.Array, jax.Array], outs: int) -> np.ndarray:
    return np.asarray(packed_products(rows, (matrix,), (outs,), True)[0], np.float32)


@needs_unit
@like_a_property
@given(n=st.integers(1, 70), **sizes)
def test_many_rows_are_products_of_bfloat16_by_a_matrix_unit(n: int, outs: int, ins: int, bits: int) -> None:
    rows = rows_of(n, ins)
    expected = halves(np.asarray(rows)) @ halves(values(*codes_and_scales(outs, ins, bits))).T
    np.testing.assert_allclose(by_the_unit(rows, packed(outs, ins, bits), outs), expected, rtol=0, atol=SAME)


@needs_unit
@pytest.mark.parametrize("bits", [4, 8])
def test_panels_and_parts_of_a_matrix_unit(bits: int) -> None:
    # More than 8 blocks of 32 rows, 16 tiles of 16 outputs and 16 groups of 32 inputs.
    rows, outs, ins = rows_of(300, 1111), 1031, 1111
    expected = halves(np.asarray(rows)) @ halves(values(*codes_and_scales(outs, ins, bits))).T
    found = by_the_unit(rows, packed(outs, ins, bits), outs)
    np.testing.assert_allclose(found, expected, rtol=0, atol=SAME)
    narrow = by_the_unit(rows.astype(jnp.bfloat16), packed(outs, ins, bits), outs)
    np.testing.assert_allclose(narrow, expected, rtol=2.0**-8, atol=SAME)


@needs_unit
def test_a_matrix_unit_is_nearer_to_the_unrounded_rows() -> None:
    rows, matrix = rows_of(40, 512), packed(64, 512, 4)
    exact = np.asarray(rows, np.float64) @ values(*codes_and_scales(64, 512, 4)).T
    few = np.asarray(packed_product(rows, *matrix, 64))
    assert np.abs(by_the_unit(rows, matrix, 64) - exact).mean() < 0.6 * np.abs(few - exact).mean()


@needs_unit
@pytest.mark.parametrize("wrong", [jnp.nan, jnp.inf])
def test_what_is_not_finite_stays_so_in_a_matrix_unit(wrong: float) -> None:
    rows = rows_of(40, 70).at[2, 40].set(wrong)
    found = by_the_unit(rows, packed(20, 70, 8), 20)
    assert not np.isfinite(found[2]).any()
    assert np.isfinite(np.delete(found, 2, axis=0)).all()


@needs_native
@pytest.mark.parametrize("choice", ["portable", "avx2", "avx512"])
def test_without_a_matrix_unit_many_rows_are_as_few(choice: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(native.VARIABLE, choice)
    rows, matrix = rows_of(20, 83), packed(37, 83, 4)
    try:
        few = np.asarray(packed_product(rows, *matrix, 37))
    except jax.errors.JaxRuntimeError:
        pytest.skip(f"this processor does not support {choice}")
    np.testing.assert_array_equal(by_the_unit(rows, matrix, 37), few)
