"""Decoding in bursts is decoding step by step: the same tokens, rows and endings."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gemwright.core.int_weights import IntWeight
from gemwright.inference import bursts
from gemwright.inference.bursts import LONGEST, Pace
from gemwright.inference.generate import Chosen
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import Session
from gemwright.model import Model, load
from tests.inference.steps import by_steps, in_bursts
from tests.tiny import CONFIG
from tests.tolerances import SAME

SAMPLINGS = {
    "greedy": GREEDY,
    "sampled, with a penalty": Sampling(temperature=0.9, top_k=20, repetition_penalty=1.3, seed=(1, 2, 3)),
}
ROWS = [3, 60, 20]


def start(model: Model, lengths: list[int] = ROWS) -> Session:
    draw = np.random.default_rng(0)
    session = Session(model.weights, model.config, len(lengths), max(lengths))
    session.extend([[2, *draw.integers(108, CONFIG.vocab_size, length - 1).tolist()] for length in lengths])
    return session


def assert_alike(model: Model, steps: int, sampling: Sampling = GREEDY, stop_ids: tuple[int, ...] = ()) -> list[Chosen]:
    one, other = start(model), start(model)
    expected = list(by_steps(one, steps, sampling, stop_ids))
    found = list(in_bursts(other, steps, sampling, stop_ids))
    assert [step.tokens for step in found] == [step.tokens for step in expected]
    for step, alike in zip(found, expected, strict=True):
        running = [token is not None for token in step.tokens]
        there, here = np.array(alike.log_probabilities)[running], np.array(step.log_probabilities)[running]
        np.testing.assert_allclose(here, there, rtol=0, atol=10 * SAME)
    assert other.tokens == one.tokens
    return found


@pytest.mark.parametrize("sampling", SAMPLINGS.values(), ids=SAMPLINGS)
def test_tokens_scores_and_rows_are_those_of_single_steps(tiny: Model, sampling: Sampling) -> None:
    for steps in (1, 2, LONGEST + 10):
        assert len(assert_alike(tiny, steps, sampling)) == steps


def test_each_row_ends_at_its_own_stop_token(tiny: Model) -> None:
    free = [step.tokens for step in by_steps(start(tiny), 20)]
    stops = (free[4][0], free[11][1])
    assert None not in (*stops,)
    found = assert_alike(tiny, 40, stop_ids=stops)
    assert found[-1].tokens.count(None) > 0  # some row ended before another


def test_all_rows_end_where_the_context_does(tiny: Model) -> None:
    found = assert_alike(tiny, 200)
    assert len(found) == CONFIG.max_positions - min(ROWS) + 1
    assert found[-1].tokens[1] is None


@pytest.fixture
def long_context(tiny: Model) -> Model:
    return replace(tiny, config=replace(tiny.config, max_positions=1024, windows=(None,)))


def test_a_cache_grows_before_a_burst(long_context: Model) -> None:
    one, other = start(long_context, [250]), start(long_context, [250])
    assert other.capacity == 256
    expected = [step.tokens for step in by_steps(one, 30)]
    assert [step.tokens for step in in_bursts(other, 30)] == expected
    assert other.capacity == 512


def test_a_session_left_within_a_burst_goes_on_rightly(long_context: Model) -> None:
    session = start(long_context, [10])
    prompt = list(session.tokens[0])
    answer = [step.tokens[0] for step in islice(in_bursts(session, 30), 5)]
    assert len(session.tokens[0]) > len(prompt) + 5  # the burst went further than its reader
    wanted = [*prompt, *[token for token in answer if token is not None], 300]
    session.advance_to(wanted)
    fresh = start(long_context, [10])
    fresh.advance_to(wanted)
    np.testing.assert_allclose(np.asarray(session.logits()), np.asarray(fresh.logits()), rtol=0, atol=10 * SAME)


def test_one_program_serves_all_bursts(tiny: Model) -> None:
    before = bursts.burst._cache_size()
    for steps in (1, 7, 50):
        list(in_bursts(start(tiny), steps))
    assert bursts.burst._cache_size() - before <= 1


def test_a_burst_lasts_no_longer_than_a_reader_notices() -> None:
    pace, found = Pace(), list[int]()
    for each in [0.001] * 3 + [0.02] * 3 + [0.5] * 2:  # seconds a step
        found.append(pace.steps(1000))
        pace.note(found[-1], found[-1] * each)
    assert found == [1, 32, 32, 32, 5, 5, 5, 1]


def test_bits_on_another_device_are_weights_in_rows(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jax.default_backend", lambda: "cuda")
    model = load(tiny_folder, bits=4)
    assert isinstance(model.weights.layers[0].mlp.gate, IntWeight)
    assert_alike(model, 5)
