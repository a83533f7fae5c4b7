"""Requests beside each other: each gets what it gets alone, whatever becomes of the others."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.inference import prompts as rooms
from gemwright.inference.engine import Engine
from gemwright.inference.generate import decode
from gemwright.inference.memory import MemoryShort
from gemwright.inference.request import Request
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import ContextFull, Session
from gemwright.inference.speculative import Drafter
from gemwright.models.gemma import Gemma
from tests.inference.eager import Eager
from tests.inference.test_session import ids
from tests.tiny import CONFIG, GRIFFIN, sharp_weights

SAMPLINGS = (
    GREEDY,
    Sampling(temperature=0.8, seed=1),
    Sampling(temperature=1.0, top_k=5, seed=2),
    Sampling(temperature=1.2, top_p=0.7, min_p=0.01, seed=3),
    Sampling(temperature=0.6, repetition_penalty=1.5, seed=4),
)
PROMPTS = (ids(1), [*ids(15), *ids(15)], ids(7), [*ids(25), *ids(25), *ids(25)], ids(18))
NEW = 9


@cache
def weights() -> Gemma:
    return sharp_weights(CONFIG)


def alone(prompt: list[int], new: int = NEW, sampling: Sampling = GREEDY) -> list[int]:
    return list(_alone(tuple(prompt), new, sampling))


@cache
def _alone(prompt: tuple[int, ...], new: int, sampling: Sampling) -> tuple[int, ...]:
    session = Session(weights(), CONFIG, 1, 128)
    session.extend([prompt])
    return tuple(token for chosen in decode(session, new, sampling) for token in chosen.tokens if token is not None)


def engine(slots: int = 2, **options: Any) -> Engine:
    return Engine(weights(), CONFIG, slots=slots, capacity=128, **{"prefill_chunk": 16, **options})


def guessing_engine() -> Engine:
    """Its passes all have one length, so that few programs are compiled."""
    served = engine()
    served._passes = Eager(16)  # pyright: ignore[reportAttributeAccessIssue]
    return served


def finish_all(served: Engine) -> None:
    while served.step():
        pass


def chosen(request: Request) -> list[int]:
    return [token.id for token in request.result(timeout=0)]


@pytest.fixture
def running() -> Iterator[Engine]:
    with guessing_engine() as served:
        yield served


# --------------------------------------------------------------------------------- beside each other


@settings(derandomize=True, deadline=None, max_examples=5)
@given(
    order=st.permutations(range(len(PROMPTS))),
    pauses=st.lists(st.integers(0, 6), min_size=len(PROMPTS), max_size=len(PROMPTS)),
    first=st.integers(0, len(SAMPLINGS) - 1),
)
def test_a_request_gets_what_it_gets_alone_whenever_it_arrives(order: list[int], pauses: list[int], first: int) -> None:
    """Five requests for two rows, so that some always wait; each with as many guesses, right or wrong, as there are."""
    served, requests = guessing_engine(), list[tuple[Request, Sampling]]()
    for index, pause in zip(order, pauses, strict=True):
        sampling = SAMPLINGS[(index + first) % len(SAMPLINGS)]
        requests.append((served.submit(PROMPTS[index], NEW, sampling), sampling))
        for _ in range(pause):
            served.step()
    finish_all(served)
    for request, sampling in requests:
        assert chosen(request) == alone(list(request.prompt), sampling=sampling)
        assert request.finish == "length"


def test_a_text_that_repeats_itself_takes_fewer_passes_beside_one_that_does_not() -> None:
    """The first prompt holds the answer that follows it."""
    prompt = ids(20)
    answer = alone(prompt, 30)
    text = [*prompt, *answer[:20], *prompt]
    served = guessing_engine()
    requests = [served.submit(text, 20), served.submit(ids(9), 20)]
    turns = 0
    while served.step():
        turns += 1
        if requests[0].finish and not requests[1].finish:
            break
    finish_all(served)
    assert requests[1].finish == "length"
    assert turns < 30
    assert [chosen(request) for request in requests] == [alone(text, 20), alone(ids(9), 20)]


def drafting_engine(drafter: Drafter) -> tuple[Engine, Eager]:
    served, passes = engine(drafter=drafter), Eager(16)
    served._passes = passes  # pyright: ignore[reportAttributeAccessIssue]
    return served, passes


def test_whatever_is_drafted_a_request_gets_what_it_gets_alone() -> None:
    served, _ = drafting_engine(Drafter(sharp_weights(CONFIG, 1), replace(CONFIG, windows=(None,))))
    requests = [served.submit(prompt, NEW, sampling) for prompt, sampling in zip(PROMPTS, SAMPLINGS, strict=True)]
    finish_all(served)
    for request, sampling in zip(requests, SAMPLINGS, strict=True):
        assert chosen(request) == alone(list(request.prompt), sampling=sampling)


def test_right_drafts_save_passes() -> None:
    """Those of the very model are right: a token, and then seven guesses and the token after them."""
    served, passes = drafting_engine(Drafter(weights(), CONFIG))
    request = served.submit(ids(7), NEW)
    finish_all(served)
    assert chosen(request) == alone(ids(7))
    assert len(passes.recorded) == 2


def test_a_drafter_of_another_vocabulary_or_that_goes_only_forward_is_refused() -> None:
    with pytest.raises(ValueError, match=r"same vocabulary of 720 tokens, found one of 300"):
        engine(drafter=Drafter(weights(), replace(CONFIG, vocab_size=300)))
    with pytest.raises(ValueError, match=r"cannot take guesses back"):
        engine(drafter=Drafter(weights(), GRIFFIN))


def test_log_probabilities_are_those_of_decode() -> None:
    served = engine()
    request = served.submit(ids(20), NEW)
    finish_all(served)
    session = Session(weights(), CONFIG, 1, 128)
    session.extend([ids(20)])
    expected = [step.log_probabilities[0] for step in decode(session, NEW)]
    np.testing.assert_allclose([token.log_probability for token in request.result(0)], expected, atol=1e-4)


def test_a_long_prompt_is_read_in_chunks_between_the_tokens_of_others() -> None:
    served = engine()
    short = served.submit(ids(5), 40)
    served.step()
    long = served.submit(ids(64), 1)
    while long.finish is None:
        served.step()
    assert len(short._tokens) == 1 + 64 // 16


# ------------------------------------------------------------------------------------- how they end


def test_a_request_ends_after_a_stop_id_which_is_handed_out() -> None:
    served, expected = engine(), alone(ids(20))
    request = served.submit(ids(20), NEW, stop_ids=[expected[3]])
    finish_all(served)
    assert (chosen(request), request.finish) == (expected[: expected.index(expected[3]) + 1], "stop")


def test_an_answer_ends_where_its_row_is_full() -> None:
    served = engine()
    request = served.submit(ids(120), 50)
    finish_all(served)
    assert (chosen(request), request.finish) == (alone(ids(120), 50), "length")


def test_a_request_that_can_never_fit_is_refused_and_others_go_on() -> None:
    served = Engine(weights(), CONFIG, slots=2, capacity=40, prefill_chunk=16)
    other = served.submit(ids(20), NEW)
    served.step()
    with pytest.raises(ContextFull, match="41 tokens do not fit the engine's rows of 40: shorten the prompt"):
        served.submit(ids(41), 1)
    finish_all(served)
    assert chosen(other) == alone(ids(20))


def test_rows_that_do_not_fit_the_memory_are_refused() -> None:
    with pytest.raises(MemoryShort, match=r"the cache of 8 x 1099511627776 tokens needs .* take a shorter context"):
        Engine(weights(), replace(CONFIG, max_positions=2**40), capacity=2**40)


@pytest.mark.parametrize(
    ("tokens", "options", "message"),
    [
        ([], {}, "begin it with BOS"),
        ([2, 720], {}, "token 720 is not in the vocabulary of 720"),
        ([2, -1], {}, "token -1 is not"),
        ([2], {"max_new_tokens": 0}, "at least 1, found 0"),
        ([2], {"sampling": Sampling(seed=(1, 2))}, "one number for a request"),
    ],
)
def test_a_bad_request_is_refused(tokens: list[int], options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine().submit(tokens, **{"max_new_tokens": 1, **options})


def test_a_request_is_cancelled_from_another_thread(running: Engine) -> None:
    doomed, other = running.submit(ids(5), 100), running.submit(ids(20), NEW)
    threading.Thread(target=lambda: (next(iter(doomed)), doomed.cancel())).start()
    assert [token.id for token in other] == alone(ids(20))
    got = [token.id for token in doomed.result(timeout=300)]
    assert doomed.finish == "cancelled"
    assert got == alone(ids(5), 100)[: len(got)]
    assert [token.id for token in running.submit(ids(30), NEW).result(timeout=300)] == alone(ids(30))


def test_a_waiting_request_can_be_cancelled() -> None:
    served = engine(slots=1)
    first, second, third = (served.submit(ids(length), NEW) for length in (5, 6, 7))
    second.cancel()
    finish_all(served)
    assert (second.finish, chosen(second)) == ("cancelled", [])
    assert (chosen(first), chosen(third)) == (alone(ids(5)), alone(ids(7)))


def test_closing_cancels_what_has_not_ended() -> None:
    with engine(slots=1) as served:
        requests = [served.submit(ids(5), 100), served.submit(ids(6), 100)]
    assert [request.finish for request in requests] == ["cancelled", "cancelled"]
    with pytest.raises(RuntimeError, match="closed"):
        served.submit(ids(5), 1)


@pytest.mark.parametrize("lost", [False, True], ids=["cache kept", "cache lost"])
def test_an_error_while_a_prompt_is_read_ends_that_request_alone(monkeypatch: pytest.MonkeyPatch, lost: bool) -> None:
    served, doomed = engine(), ids(33)

    def read_row(weights: Any, caches: Any, row: Any, tokens: Any, positions: Any, config: Any) -> Any:
        if np.asarray(tokens)[0, 0] == doomed[16]:
            if lost:
                caches[0].keys.delete()
            raise RuntimeError("out of memory")
        return real(weights, caches, row, tokens, positions, config)

    real = rooms.read_row
    monkeypatch.setattr(rooms, "read_row", read_row)
    other = served.submit(ids(20), NEW, SAMPLINGS[1])
    for _ in range(4):
        served.step()
    failed = served.submit(doomed, NEW)
    finish_all(served)
    assert chosen(other) == alone(ids(20), sampling=SAMPLINGS[1])
    assert failed.finish == "error"
    with pytest.raises(RuntimeError, match="failed in the engine: out of memory"):
        failed.result(0)


def test_a_row_whose_logits_are_no_numbers_fails_alone_and_can_be_used_again() -> None:
    served = engine()
    doomed, other = served.submit(ids(5), 50), served.submit(ids(20), NEW)
    served.step()
    state = served._session.state
    caches = tuple(replace(cache, values=cache.values.at[0, 0].set(np.nan)) for cache in state.caches)
    served._session.state = type(state)(caches, state.last)
    finish_all(served)
    assert (doomed.finish, chosen(other)) == ("error", alone(ids(20)))
    again = [served.submit(ids(length), NEW) for length in (7, 18)]
    finish_all(served)
    assert [chosen(request) for request in again] == [alone(ids(7)), alone(ids(18))]


# ---------------------------------------------------------------------------------- shared prefixes


@pytest.mark.parametrize("source", ["idle", "busy"])
def test_a_shared_prefix_is_not_computed_again(source: str) -> None:
    """The ring of 24 has not turned at 22 tokens."""
    served, prompt = engine(), ids(20)
    first = served.submit(prompt, 2 if source == "idle" else 3)
    while served.step() and len(first._tokens) < 2:
        pass
    before = served.prefilled
    fork = [*prompt[:18], 300, 301]
    second = served.submit(fork, NEW)
    finish_all(served)
    assert (served.prefilled - before, second.shared) == (1, 18)
    assert chosen(second) == alone(fork)
    assert chosen(first) == alone(prompt, len(first.result(0)))


def test_a_prompt_sent_twice_at_once_is_computed_once() -> None:
    served = engine()
    requests = [served.submit(ids(20), 1, sampling) for sampling in SAMPLINGS[:2]]
    finish_all(served)
    assert served.prefilled == 19
    assert [chosen(request) for request in requests] == [alone(ids(20), 1, s) for s in SAMPLINGS[:2]]


def test_a_ring_that_has_turned_lends_its_end_and_nothing_before() -> None:
    served = engine()
    first = served.submit(ids(60), 4)
    finish_all(served)
    before = served.prefilled
    longer = [*ids(60), *chosen(first)[:3], 300, 301]
    forked = [*ids(60)[:50], 302]
    for prompt, computed in ((longer, 1), (forked, 50)):
        request = served.submit(prompt, NEW)
        finish_all(served)
        assert chosen(request) == alone(prompt)
        assert served.prefilled - before == computed
        before = served.prefilled
