from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from gemwright.inference.sampling import Filters, Sampling, choose, keep, likeliest, penalise

SIZE = 24
IMPOSSIBLE = 1e-37  # shares below have no float32 of their own: as good as none
CLOSE = 1e-5  # float32 sums of a few shares are this near the exact ones: a border within it may fall either way

kept_by_us = jax.jit(keep, static_argnums=2)
chosen_by_us = jax.jit(choose, static_argnames="filters")

# Eighths, so that ties are common and different logits have different shares in float32 too.
ordinary = st.integers(-100, 100).map(lambda eighths: eighths / 8)
extreme = st.sampled_from([1e30, -1e30, -np.inf, 0.0])
rows = st.one_of(
    st.lists(ordinary, min_size=SIZE, max_size=SIZE), st.lists(extreme | ordinary, min_size=SIZE, max_size=SIZE)
).filter(lambda row: max(row) > -np.inf)


def shares_of(logits: np.ndarray) -> np.ndarray:
    shares = np.exp(logits - logits.max())
    shares /= shares.sum()
    return np.where(shares < IMPOSSIBLE, 0.0, shares)


def kept_by_sorting(logits: np.ndarray, sampling: Sampling) -> np.ndarray:
    """What the filters keep, one after the other, in float64 with a sort."""
    if sampling.top_k:
        shares = shares_of(logits)
        worst = np.sort(shares)[::-1][min(sampling.top_k, len(shares)) - 1]
        logits = np.where(shares >= worst, logits, -np.inf)
    if sampling.top_p < 1:
        shares = shares_of(logits)
        falling = np.sort(shares)[::-1]
        totals = np.cumsum(falling)
        assume((np.abs(totals - sampling.top_p) > CLOSE).all())
        worst = falling[np.argmax(totals >= sampling.top_p)]
        logits = np.where(shares >= worst, logits, -np.inf)
    if sampling.min_p:
        shares = shares_of(logits)
        floor = sampling.min_p * shares.max()
        assume((np.abs(shares - floor) > CLOSE * floor).all())
        logits = np.where(shares >= floor, logits, -np.inf)
    return shares_of(logits) > 0


def assert_keeps_the_same(row: list[float], sampling: Sampling) -> None:
    expected = kept_by_sorting(np.array(row), sampling)
    found = np.asarray(kept_by_us(jnp.asarray([row], jnp.float32), sampling.knobs(1), sampling.filters))[0]
    np.testing.assert_array_equal(shares_of(found.astype(np.float64)) > 0, expected)
    np.testing.assert_array_equal(found[expected], np.float32(row)[expected], err_msg="kept logits stay as they are")


like_a_property = settings(derandomize=True, deadline=None, max_examples=100)


@like_a_property
@given(row=rows, k=st.integers(1, SIZE + 2))
def test_top_k_keeps_what_sorting_keeps(row: list[float], k: int) -> None:
    assert_keeps_the_same(row, Sampling(temperature=1, top_k=k))


@like_a_property
@given(row=rows, p=st.floats(1e-3, 0.999))
def test_top_p_keeps_what_sorting_keeps(row: list[float], p: float) -> None:
    assert_keeps_the_same(row, Sampling(temperature=1, top_p=p))


@like_a_property
@given(row=rows, p=st.floats(1e-3, 1.0))
def test_min_p_keeps_what_sorting_keeps(row: list[float], p: float) -> None:
    assert_keeps_the_same(row, Sampling(temperature=1, min_p=p))


@like_a_property
@given(row=rows, k=st.integers(1, SIZE), top=st.floats(0.1, 0.999), low=st.floats(1e-3, 0.9))
def test_filters_together_keep_what_sorting_keeps(row: list[float], k: int, top: float, low: float) -> None:
    assert_keeps_the_same(row, Sampling(temperature=1, top_k=k, top_p=top, min_p=low))


@pytest.mark.parametrize("width", [1, 255, 256, 257, 1000])
def test_the_likeliest_is_the_first_of_the_largest(width: int) -> None:
    draw = np.random.default_rng(width)
    scores = draw.integers(-9, 9, (7, width)).astype(np.float32)  # with ties
    scores[0], scores[1] = -np.inf, scores[1, 0]
    np.testing.assert_array_equal(np.asarray(likeliest(jnp.asarray(scores))), scores.argmax(axis=-1))


def test_ties_at_the_border_are_all_kept() -> None:
    row = jnp.asarray([[3.0, 1.0, 1.0, 1.0, 0.0]])
    for sampling in (Sampling(temperature=1, top_k=2), Sampling(temperature=1, top_p=0.8)):
        kept = jnp.isfinite(keep(row, sampling.knobs(1), sampling.filters))
        assert kept.tolist() == [[True, True, True, True, False]]


@pytest.mark.parametrize(
    "options", [{"top_p": 1e-45}, {"top_p": 1e-300}, {"temperature": 1e-45}, {"temperature": 1e-300}, {"top_k": 1}]
)
def test_the_narrowest_settings_take_the_likeliest_token(options: dict[str, Any]) -> None:
    sampling = Sampling(**{"temperature": 1.0, **options})
    logits = jnp.asarray([[-2.0, 1.0, 30.0, 29.0]])
    for seed in range(5):
        knobs = Sampling(temperature=sampling.temperature, top_p=sampling.top_p, top_k=sampling.top_k, seed=seed)
        tokens, _ = chosen_by_us(logits, None, jnp.int32(0), knobs.knobs(1), filters=sampling.filters)
        assert tokens.tolist() == [2]


@pytest.mark.parametrize("top_k", [10**6, 2**31, 10**12])
def test_a_top_k_beyond_the_vocabulary_keeps_all(top_k: int) -> None:
    sampling = Sampling(temperature=1, top_k=top_k)
    assert bool(jnp.isfinite(keep(jnp.asarray([[3.0, 1.0, -9.0]]), sampling.knobs(1), sampling.filters)).all())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_tokens_come_as_often_as_their_shares_say(temperature: float) -> None:
    """20,000 draws; each of 6 frequencies may be 5 standard deviations off, which luck does once in 10^5 runs,
    and the seeds are fixed: it happens always or never."""
    draws, logits = 20_000, np.array([2.0, 1.0, 0.5, 0.0, -1.0, -3.0], np.float32)
    sampling = Sampling(temperature=temperature, seed=tuple(range(draws)))
    rows = jnp.broadcast_to(logits, (draws, len(logits)))
    tokens, _ = chosen_by_us(rows, None, jnp.int32(7), sampling.knobs(draws), filters=sampling.filters)
    shares = shares_of(logits.astype(np.float64) / temperature)
    found = np.bincount(np.asarray(tokens), minlength=len(logits)) / draws
    assert (np.abs(found - shares) < 5 * np.sqrt(shares * (1 - shares) / draws)).all()


def test_the_highest_temperature_is_still_a_number_on_the_device() -> None:
    assert np.isfinite(Sampling(1e300).knobs(1).temperature).all()


def test_a_draw_depends_on_seed_and_step_not_on_the_row() -> None:
    logits = jnp.zeros((3, 500))
    pick = partial(chosen_by_us, logits, None, filters=Filters(sample=True))
    a, b, c = pick(count=jnp.int32(0), knobs=Sampling(temperature=1, seed=(5, 6, 5)).knobs(3))[0].tolist()
    assert a == c
    assert a != b
    assert pick(count=jnp.int32(1), knobs=Sampling(temperature=1, seed=5).knobs(3))[0].tolist() != [a, a, a]


@like_a_property
@given(row=rows, penalty=st.floats(0.25, 4), seen=st.lists(st.booleans(), min_size=SIZE, max_size=SIZE))
def test_the_penalty_makes_seen_tokens_less_likely_as_published(
    row: list[float], penalty: float, seen: list[bool]
) -> None:
    logits, mask = np.array(row, np.float32), np.array(seen)
    expected = np.where(mask & (logits > 0), logits / np.float32(penalty), logits)
    expected = np.where(mask & (logits <= 0), logits * np.float32(penalty), expected)
    found = penalise(jnp.asarray(logits), jnp.asarray(mask), jnp.float32(penalty))
    np.testing.assert_allclose(np.asarray(found), expected, rtol=1e-6)


def test_log_probabilities_are_those_before_any_filter() -> None:
    logits = np.array([[2.0, 1.0, 0.0, -1.0]], np.float32)
    sampling = Sampling(temperature=0.3, top_k=2, min_p=0.1, repetition_penalty=2.0, seed=3)
    seen = jnp.asarray([[True, False, False, False]])
    token, score = choose(jnp.asarray(logits), seen, jnp.int32(0), sampling.knobs(1), sampling.filters)
    expected = np.log(shares_of(logits[0].astype(np.float64)))[int(token[0])]
    assert float(score[0]) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, "temperature must be 0 or more, found -0.1"),
        ({"temperature": float("nan")}, "temperature must be 0 or more, found nan"),
        ({"temperature": float("inf")}, "temperature must be 0 or more, found inf"),
        ({"top_k": -1}, "top_k must be 0 or more, found -1"),
        ({"top_p": 0.0}, "top_p must be above 0, at most 1, found 0.0"),
        ({"top_p": 1.5}, "top_p must be above 0, at most 1, found 1.5"),
        ({"min_p": -1}, "min_p must be between 0 and 1, found -1"),
        ({"repetition_penalty": 0}, "repetition_penalty must be above 0, found 0"),
        ({"seed": -1}, "seed must be between 0 and 2^32 - 1, found -1"),
        ({"seed": (1, 2**32)}, "seed must be between 0 and 2^32 - 1, found 4294967296"),
    ],
)
def test_a_value_out_of_range_is_named_in_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError) as caught:
        Sampling(**options)
    assert str(caught.value) == message


def test_as_many_seeds_as_rows_are_asked_for() -> None:
    with pytest.raises(ValueError, match="one for each of 3 rows; found 2"):
        Sampling(seed=(1, 2)).knobs(3)
