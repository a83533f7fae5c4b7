"""Decoding in bursts on the device is decoding step by step: the same tokens, rows and endings."""

from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
import pytest

from gemwright.core.int_weights import IntWeight
from gemwright.inference import bursts, generate
from gemwright.inference.bursts import LONGEST
from gemwright.inference.generate import Chosen, decode, decode_by_steps, decode_in_bursts
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import Session
from gemwright.model import Model, load
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
    expected = list(decode_by_steps(one, steps, sampling, stop_ids))
    found = list(decode_in_bursts(other, steps, sampling, stop_ids))
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
    free = [step.tokens for step in decode_by_steps(start(tiny), 20, GREEDY, ())]
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
    expected = [step.tokens for step in decode_by_steps(one, 30, GREEDY, ())]
    assert [step.tokens for step in decode_in_bursts(other, 30, GREEDY, ())] == expected
    assert other.capacity == 512


def test_a_session_left_within_a_burst_goes_on_rightly(long_context: Model) -> None:
    session = start(long_context, [10])
    prompt = list(session.tokens[0])
    answer = [step.tokens[0] for step in islice(decode_in_bursts(session, 30, GREEDY, ()), 5)]
    assert len(session.tokens[0]) > len(prompt) + 5  # the burst went further than its reader
    wanted = [*prompt, *[token for token in answer if token is not None], 300]
    session.advance_to(wanted)
    fresh = start(long_context, [10])
    fresh.advance_to(wanted)
    np.testing.assert_allclose(np.asarray(session.logits()), np.asarray(fresh.logits()), rtol=0, atol=10 * SAME)


def test_one_program_serves_all_bursts(tiny: Model) -> None:
    before = bursts.burst._cache_size()
    for steps in (1, 7, 50):
        list(decode_in_bursts(start(tiny), steps, GREEDY, ()))
    assert bursts.burst._cache_size() - before <= 1


def test_another_device_than_a_cpu_decodes_in_bursts(tiny: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[int] = []
    monkeypatch.setattr(generate, "decode_in_bursts", lambda *arguments: called.append(arguments[1]) or iter(()))
    assert next(decode(start(tiny), 3)).tokens[0] is not None
    assert not called
    monkeypatch.setattr(generate, "on_cpu", lambda session: False)
    assert list(decode(start(tiny), 3)) == []
    assert called == [3]


def test_bits_on_another_device_are_weights_in_rows(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jax.default_backend", lambda: "cuda")
    model = load(tiny_folder, bits=4)
    assert isinstance(model.weights.layers[0].mlp.gate, IntWeight)
    assert_alike(model, 5)
