"""Attention in training: each level is the float64 softmax over what a token sees, and so are its derivatives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.core.flash_attention import attend_text, is_flash_attention
from gemwright.core.ops import causal
from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.kernels import native
from gemwright.kernels.text_attention import text_attention, text_attention_reference
from tests.core import reference
from tests.kernels.test_packed_product import LEVELS, needs_native
from tests.tolerances import BFLOAT16, SAME

Sizes = tuple[int, int, int, int, int]
"""B texts, T tokens, G key heads, query heads of each, the size of a head."""

Arguments = tuple[jax.Array, jax.Array, jax.Array, jax.Array, jax.Array]
like_a_property = settings(derandomize=True, deadline=None, max_examples=15)


@pytest.fixture(params=LEVELS)
def level(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each instruction set in turn; skips those that this processor has not got."""
    monkeypatch.setenv(native.VARIABLE, request.param)
    try:
        text_attention(*inputs((1, 1, 1, 1, 1)), None, None).block_until_ready()
    except jax.errors.JaxRuntimeError as error:
        if f"does not support {request.param}" not in str(error):
            raise
        pytest.skip(f"this processor does not support {request.param}")
    return request.param


def inputs(sizes: Sizes, documents: int = 4, seed: int = 0) -> Arguments:
    """Rows packed with about so many documents, every fourth of them padding: before, between and after the others."""
    b, t, groups, heads, size = sizes
    draw = np.random.default_rng(seed)
    begins = draw.random((b, t)) < documents / t
    begins[:, 0] = True
    segments = np.cumsum(begins, axis=1)
    positions = np.arange(t) - np.maximum.accumulate(np.where(begins, np.arange(t), 0), axis=1)
    positions = np.where((segments + np.arange(b)[:, None]) % 4 == 3, -1, positions)
    queries = 2 * draw.standard_normal((b, t, groups * heads, size)) / np.sqrt(size)
    keys, values = draw.standard_normal((2, b, t, groups, size))
    floats = (jnp.asarray(part, jnp.float32) for part in (queries, keys, values))
    return *floats, jnp.asarray(positions, jnp.int32), jnp.asarray(segments, jnp.int32)


def seen_by(positions: jax.Array, segments: jax.Array, window: int | None) -> np.ndarray:
    at, documents = np.asarray(positions), np.asarray(segments)
    back = at[:, :, None] - at[:, None]
    within = back >= 0 if window is None else (back >= 0) & (back < window)
    return within & (at[:, None] >= 0) & (documents[:, :, None] == documents[:, None])


def exact(arguments: Arguments, window: int | None, cap: float | None) -> np.ndarray:
    heads = [np.asarray(part, np.float64) for part in arguments[:3]]
    return reference.attend(*heads, seen_by(*arguments[3:], window), cap)


def exact_slopes(
    arguments: Arguments, by: np.ndarray, window: int | None, cap: float | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Derivatives of the sum of `by` times the result, in float64."""
    queries, keys, values = (np.asarray(part, np.float64) for part in arguments[:3])
    b, t, groups, size = keys.shape
    rows, by = (part.reshape(b, t, groups, -1, size) for part in (queries, by))
    scores = np.einsum("btghk,bsgk->bghts", rows, keys)
    bent = scores if cap is None else cap * np.tanh(scores / cap)
    seen = seen_by(*arguments[3:], window)[:, None, None]
    shares = np.exp(bent - np.max(bent, axis=-1, keepdims=True, where=seen, initial=-1e9), where=seen, out=0 * bent)
    shares /= np.maximum(shares.sum(-1, keepdims=True), 1e-300)
    to_shares = np.einsum("btghk,bsgk->bghts", by, values)
    to_scores = shares * (to_shares - (shares * to_shares).sum(-1, keepdims=True))
    to_scores *= 1 if cap is None else 1 - (bent / cap) ** 2
    to_queries = np.einsum("bghts,bsgk->btghk", to_scores, keys).reshape(queries.shape)
    return (
        to_queries,
        np.einsum("bghts,btghk->bsgk", to_scores, rows),
        np.einsum("bghts,btghk->bsgk", shares, by),
    )


def found_and_slopes(
    arguments: Arguments, by: np.ndarray, window: int | None, cap: float | None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    found, back = jax.vjp(lambda *heads: text_attention(*heads, *arguments[3:], window, cap), *arguments[:3])
    return found, back(jnp.asarray(by, found.dtype))


def some_slope(arguments: Arguments) -> np.ndarray:
    """Of the result; its products with the values are about 1."""
    shape = arguments[0].shape
    return np.random.default_rng(7).standard_normal(shape) / np.sqrt(shape[3])


def check(arguments: Arguments, window: int | None, cap: float | None) -> None:
    by = some_slope(arguments)
    found, slopes = found_and_slopes(arguments, by, window, cap)
    np.testing.assert_allclose(np.asarray(found), exact(arguments, window, cap), rtol=0, atol=SAME)
    for one, expected in zip(slopes, exact_slopes(arguments, by, window, cap), strict=True):
        within = SAME * max(1.0, np.abs(expected).max())  # sums over many queries have larger values
        np.testing.assert_allclose(np.asarray(one), expected, rtol=0, atol=within)


@needs_native
@pytest.mark.parametrize(("window", "cap"), [(None, None), (1, 2.0), (40, 50.0), (40, None)])
@pytest.mark.parametrize("sizes", [(1, 150, 1, 4, 64), (3, 70, 2, 3, 37), (2, 1, 3, 1, 3), (1, 3, 1, 70, 20)])
def test_each_level_is_attention_in_float64(level: str, sizes: Sizes, window: int | None, cap: float | None) -> None:
    for documents in (4, 0):
        check(inputs(sizes, documents), window, cap)


@needs_native
@like_a_property
@given(
    texts=st.integers(1, 3), tokens=st.integers(1, 150), groups=st.integers(1, 2), heads=st.integers(1, 5),
    size=st.integers(1, 40), documents=st.integers(0, 9), window=st.none() | st.integers(1, 90),
    cap=st.none() | st.just(3.0), seed=st.integers(0, 99),
)  # fmt: skip
def test_any_shape(
    texts: int, tokens: int, groups: int, heads: int, size: int, documents: int, window: int | None,
    cap: float | None, seed: int,
) -> None:  # fmt: skip
    check(inputs((texts, tokens, groups, heads, size), documents, seed), window, cap)


@pytest.mark.parametrize("cap", [None, 2.0])
def test_the_exact_slopes_are_those_of_the_oracle(cap: float | None) -> None:
    """By small steps from the float64 attention of one query at a time, which no kernel and no formula is part of."""
    arguments = inputs((1, 13, 2, 2, 5))
    by, draw, nudge = some_slope(arguments), np.random.default_rng(3), 1e-5
    for place, slope in enumerate(exact_slopes(arguments, by, 6, cap)):
        heads = [np.asarray(part, np.float64) for part in arguments[:3]]
        step = draw.standard_normal(slope.shape)
        ends = list[float]()
        for sign in (1, -1):
            moved = [part + sign * nudge * step if place == index else part for index, part in enumerate(heads)]
            ends.append(float(np.sum(by * reference.attend(*moved, seen_by(*arguments[3:], 6), cap))))
        assert np.sum(slope * step) == pytest.approx((ends[0] - ends[1]) / (2 * nudge), abs=1e-6)


@needs_native
def test_bfloat16_is_the_float32_result_rounded(level: str) -> None:
    """The derivatives also meet the rounding of the result, which they read."""
    wide = inputs((2, 70, 2, 3, 37))
    narrow = *(part.astype(jnp.bfloat16) for part in wide[:3]), *wide[3:]
    wide = *(part.astype(jnp.float32) for part in narrow[:3]), *wide[3:]
    by = np.asarray(jnp.asarray(some_slope(wide), jnp.bfloat16).astype(jnp.float32))
    (found, slopes), (expected, exact) = (found_and_slopes(each, by, 40, 50.0) for each in (narrow, wide))
    assert {part.dtype for part in (found, *slopes)} == {jnp.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(np.asarray(found, np.float32), np.asarray(expected), rtol=BFLOAT16, atol=SAME)
    for one, other in zip(slopes, exact, strict=True):
        most = float(jnp.max(jnp.abs(other)))
        np.testing.assert_allclose(np.asarray(one, np.float32), np.asarray(other), rtol=0, atol=2 * BFLOAT16 * most)


@needs_native
def test_tokens_that_see_nothing_are_zero_and_move_nothing(level: str) -> None:
    arguments = inputs((2, 90, 1, 2, 16))
    padding = np.asarray(arguments[3]) < 0
    assert padding.any()
    found, slopes = found_and_slopes(arguments, some_slope(arguments), 5, 3.0)
    for part in (found, *slopes):
        assert not np.asarray(part)[padding].any()
        assert np.isfinite(np.asarray(part)).all()
    none = jnp.full_like(arguments[3], -1)
    found, slopes = found_and_slopes((*arguments[:3], none, arguments[4]), some_slope(arguments), None, None)
    assert not any(np.asarray(part).any() for part in (found, *slopes))


@needs_native
@pytest.mark.parametrize("place", [0, 1, 2])
def test_what_is_no_number_reaches_result_and_derivatives(level: str, place: int) -> None:
    """So that a step of training notices. A value that is none reaches some before it too, as 0 times it is none."""
    queries, keys, values, positions, segments = inputs((1, 100, 1, 2, 8), documents=0)
    heads = [queries, keys, values]
    heads[place] = heads[place].at[0, 70, 0, 0].set(np.nan)
    by = some_slope((queries, keys, values, positions, segments))
    found, slopes = found_and_slopes((*heads, positions, segments), by, None, None)
    wrong = np.isnan(np.asarray(found)).any(-1)
    assert wrong[0, 70, 0]
    assert place == 0 or wrong[:, 70:].all()
    assert place == 2 or not wrong[:, :70].any()
    for slope in slopes[: 2 if place == 2 else 3]:  # those of values follow from the scores alone
        assert np.isnan(np.asarray(slope)[:, 70]).any()


@needs_native
def test_scores_far_apart_neither_overflow_nor_vanish(level: str) -> None:
    queries, *rest = inputs((1, 100, 1, 2, 32))
    for scale in (1e3, -1e3):
        arguments: Any = (queries * scale, *rest)
        found, slopes = found_and_slopes(arguments, some_slope(arguments), None, None)
        # Scores of some thousands have errors of 1e-4 in float32, and so have their exponentials.
        np.testing.assert_allclose(np.asarray(found), exact(arguments, None, None), rtol=0, atol=1e-3)
        assert all(np.isfinite(np.asarray(slope)).all() for slope in slopes)


@needs_native
def test_the_same_again_to_the_bit_whichever_thread_takes_what() -> None:
    """Ten times: of the 16 parts that each gradient is summed from, threads take others each time."""
    arguments = inputs((1, 500, 1, 4, 16), documents=0)
    both = jax.jit(lambda: found_and_slopes(arguments, some_slope(arguments), None, None))
    first = jax.tree.leaves(both())
    for _ in range(10):
        for one, other in zip(jax.tree.leaves(both()), first, strict=True):
            np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@needs_native
@pytest.mark.parametrize("sizes", [(0, 3, 1, 2, 4), (2, 0, 1, 2, 4), (2, 3, 1, 0, 4), (2, 3, 1, 2, 0)])
def test_nothing_makes_nothing(sizes: Sizes) -> None:
    b, t, groups, heads, size = sizes
    queries, keys = jnp.ones((b, t, groups * heads, size)), jnp.ones((b, t, groups, size))
    places = jnp.zeros((b, t), jnp.int32)
    found, slopes = found_and_slopes((queries, keys, keys, places, places), np.ones(queries.shape), None, None)
    assert [part.shape for part in (found, *slopes)] == [part.shape for part in (queries, queries, keys, keys)]
    assert not any(np.asarray(part).any() for part in (found, *slopes))


@needs_native
def test_vmap_is_each_by_itself() -> None:
    queries, *rest = inputs((1, 40, 2, 2, 9))
    by = jnp.asarray(some_slope((queries, *rest)), jnp.float32)

    def slope(queries: jax.Array) -> jax.Array:
        return jax.grad(lambda queries: jnp.sum(by * text_attention(queries, *rest, 9, None)))(queries)

    both = jax.vmap(slope)(jnp.stack([queries, -queries]))
    for one, alone in zip(both, (queries, -queries), strict=True):
        np.testing.assert_allclose(np.asarray(one), np.asarray(slope(alone)), rtol=0, atol=SAME)


@needs_native
def test_arrays_that_do_not_fit_are_refused() -> None:
    queries, keys, values, positions, segments = inputs((2, 9, 2, 2, 4))
    for arguments in (
        (queries[:, :8], keys, values, positions, segments),
        (queries[:, :, :3], keys, values, positions, segments),
        (queries, keys, values[:, :, :, :3], positions, segments),
        (queries, keys, values, positions[:1], segments),
        (queries, keys, values, positions, segments[:, :8]),
        (queries.astype(jnp.bfloat16), keys, values, positions, segments),
        (*(part.astype(jnp.float16) for part in (queries, keys, values)), positions, segments),
    ):
        with pytest.raises(jax.errors.JaxRuntimeError, match=r"text_attention: expected \(B, T, H, K\) queries"):
            text_attention(*arguments, None, None).block_until_ready()


# ------------------------------------------------------------------------------ where the kernel runs


def attended(*heads: jax.Array, window: int | None = 12, cap: float | None = 3.0) -> jax.Array:
    """`attend_text` over the places of `inputs`."""
    b, t = heads[0].shape[:2]
    positions, segments = inputs((b, t, 1, 1, 1))[3:]

    def visible(window: int | None) -> jax.Array:
        return causal(positions, positions, window) & (segments[:, :, None] == segments[:, None])

    return attend_text(*heads, (positions, segments), visible, window, cap)


@pytest.mark.parametrize("switch", ["", "off"])
def test_it_is_the_reference_whichever_runs(switch: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """But for padding, of which plain JAX makes something that nobody reads."""
    monkeypatch.setenv(native.VARIABLE, switch)
    arguments = inputs((2, 90, 2, 2, 8))
    real = arguments[3][:, :, None, None] >= 0
    by = jnp.where(real, jnp.asarray(some_slope(arguments), jnp.float32), 0)

    def expected(*heads: jax.Array) -> jax.Array:
        return text_attention_reference(*heads, *arguments[3:], 12, 3.0)

    def all_of(attend: Any) -> list[jax.Array]:
        def both(*heads: jax.Array) -> Any:
            found, back = jax.vjp(attend, *heads)
            return jnp.where(real, found, 0), back(by)

        return jax.tree.leaves(jax.jit(both)(*arguments[:3]))

    for one, other in zip(all_of(attended), all_of(expected), strict=True):
        within = SAME * max(1.0, float(jnp.max(jnp.abs(other))))
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), rtol=0, atol=within)


def calls(program: Any, *heads: jax.Array) -> tuple[int, int]:
    """How often the kernel is called in a program, and that of its derivatives."""
    text = jax.jit(program).lower(*heads).as_text()
    return tuple(text.count(f"custom_call @{name}(") for name in (native.TEXT_ATTENTION, native.TEXT_ATTENTION_BACK))


@needs_native
def test_several_devices_have_no_kernel() -> None:
    heads = inputs((2, 16, 1, 2, 4))[:3]
    for count in (1, 2):
        with jax.set_mesh(make_mesh(MeshShape(fsdp=count), jax.devices()[:count])):
            assert calls(attended, *heads) == (2 - count, 0)


@needs_native
@pytest.mark.parametrize(("policy", "forward"), [(is_flash_attention, 1), (None, 2)])
def test_a_checkpoint_with_the_policy_runs_the_kernel_once(policy: Any, forward: int) -> None:
    again = jax.checkpoint(lambda *heads: jnp.sum(jnp.sin(attended(*heads))), policy=policy)
    assert calls(jax.value_and_grad(again, (0, 1, 2)), *inputs((2, 16, 1, 2, 4))[:3]) == (forward, 1)
