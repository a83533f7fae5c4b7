"""Requests that show pictures, beside those that do not: each gets what it gets alone."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest

from gemwright.inference import prompts as rooms
from gemwright.inference.engine import Engine
from gemwright.inference.generate import decode
from gemwright.inference.interleaved import Row, mark_of, read_rows
from gemwright.inference.request import Request
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import Session
from gemwright.inference.speculative import Drafter
from gemwright.models.gemma3_vision import Gemma3Vision
from tests.inference.eager import Eager
from tests.inference.test_engine import chosen, finish_all
from tests.inference.test_session import ids
from tests.tiny import CONFIG, GEMMA3, sharp_weights

NEW = 9
PENALISED = Sampling(temperature=0.8, repetition_penalty=1.5, seed=4)
PIXELS = np.random.default_rng(0).uniform(-1, 1, (3, 24, 24, 3)).astype(np.float32)


@cache
def weights() -> Gemma3Vision:
    return sharp_weights(GEMMA3)


def row_of(*parts: Sequence[int] | int) -> Row:
    """Texts, and pictures by number."""
    tokens, pictures = list[int](), dict[int, np.ndarray]()
    for part in parts:
        if isinstance(part, int):
            pictures[mark_of(PIXELS[part])] = PIXELS[part]
            tokens += [mark_of(PIXELS[part])] * GEMMA3.picture_tokens
        else:
            tokens += part
    return Row(tokens, pictures)


def alone(row: Row, new: int = NEW, sampling: Sampling = GREEDY) -> tuple[list[int], list[float]]:
    """Tokens and their log-probabilities."""
    session = Session(weights(), GEMMA3, 1, 128)
    read_rows(session, weights(), GEMMA3, [row])
    steps = list(decode(session, new, sampling))
    return [step.tokens[0] or 0 for step in steps], [step.log_probabilities[0] for step in steps]


def scores(request: Request) -> list[float]:
    return [token.log_probability for token in request.result(0)]


def engine(**options: Any) -> Engine:
    """Its passes all have one length, so that few programs are compiled; every guess is made."""
    served = Engine(weights(), GEMMA3, slots=2, capacity=128, prefill_chunk=16, **options)
    served._passes = Eager(16)  # pyright: ignore[reportAttributeAccessIssue]
    return served


ROWS = (
    row_of([2, 5], 0, [7, 8, 9] * 2),
    row_of(ids(18)),
    row_of(ids(40), 1, [9], 0, 0, [11, *ids(20)]),
    row_of(1, ids(6)),
    row_of([2, 5], 2, [7, 8, 9] * 2),
)


@pytest.mark.parametrize("drafts", [False, True], ids=["looked up", "drafted"])
def test_a_request_with_pictures_gets_what_it_gets_alone(drafts: bool) -> None:
    """Five requests for two rows: texts, one picture or three, two side by side, one at the very beginning."""
    small = replace(CONFIG, windows=(None,))
    served = engine(drafter=Drafter(sharp_weights(CONFIG, 1), small)) if drafts else engine()
    samplings = (GREEDY, PENALISED, GREEDY, PENALISED, GREEDY)
    requests = list[Request]()
    for row, sampling in zip(ROWS, samplings, strict=True):
        requests.append(served.submit(row, NEW, sampling))
        served.step()
    finish_all(served)
    for request, row, sampling in zip(requests, ROWS, samplings, strict=True):
        tokens, log_probabilities = alone(row, sampling=sampling)
        assert chosen(request) == tokens
        np.testing.assert_allclose(scores(request), log_probabilities, rtol=0, atol=1e-4)
    far = np.abs(np.subtract(scores(requests[0])[:1], scores(requests[4])[:1])).max()
    assert far > 0.01, "their pictures alone differ, so the picture is seen"


def test_a_picture_is_read_in_one_call_between_the_tokens_of_others() -> None:
    served = engine()
    other = served.submit(ids(5), 40)
    served.step()
    before = len(other._tokens)
    served._passes = Eager(1, 16)  # pyright: ignore[reportAttributeAccessIssue]
    seen = served.submit(row_of([2, 5], 0, 1, [7, 8]), 1)
    parts = list[int]()
    while seen.finish is None:
        held = served.prefilled
        served.step()
        parts.append(served.prefilled - held)
    assert parts == [2, 9, 9, 1]
    assert len(other._tokens) - before >= len(parts)
    assert chosen(seen) == alone(row_of([2, 5], 0, 1, [7, 8]), 1)[0]


def test_equal_beginnings_with_a_picture_are_shared_and_another_picture_is_not() -> None:
    """The ring of 24 has not turned at 21 tokens."""
    served = engine()
    first, fork, other = (row_of([2, 5], n, [*range(20, 27), *end]) for n, end in ((0, [30, 31]), (0, [40]), (1, [30])))
    requests = list[tuple[Request, Row]]()
    for row in (first, fork, other):
        requests.append((served.submit(row, 1), row))
        finish_all(served)
    assert [request.shared for request, _ in requests[:2]] == [0, 18]
    assert requests[2][0].shared <= 2, "no token of another picture"
    for request, row in requests:
        assert chosen(request) == alone(row, 1)[0]


def test_pictures_are_read_again_where_a_failed_program_took_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    served, row = engine(), ROWS[0]

    def read_row(weights: Any, caches: Any, *rest: Any) -> Any:
        if np.asarray(rest[1])[0, 0] == 700:
            caches[0].keys.delete()
            raise RuntimeError("out of memory")
        return real(weights, caches, *rest)

    real = rooms.read_row
    monkeypatch.setattr(rooms, "read_row", read_row)
    seen = served.submit(row, NEW)
    for _ in range(4):
        served.step()
    failed = served.submit([700, 2], NEW)
    finish_all(served)
    assert failed.finish == "error"
    assert chosen(seen) == alone(row)[0]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (row_of([2, 5], 0), "ends in a picture: expected at least one token of text"),
        (Row([2, mark_of(PIXELS[0]), 5], {mark_of(PIXELS[0]): PIXELS[0]}), "expected its mark 9 times, found 1 times"),
        (Row([2, *[-7] * 9, 5]), "token -7 is not in the vocabulary"),
        (Row([2, *[-7] * 9, 5], {-7: PIXELS[0][:20]}), r"expected pixels of \(24, 24, 3\), found \(20, 24, 3\)"),
    ],
)
def test_a_prompt_whose_pictures_do_not_fit_is_refused(row: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine().submit(row, 1)


def test_a_model_that_reads_no_pictures_refuses_them() -> None:
    served = Engine(sharp_weights(CONFIG), CONFIG, slots=1, capacity=32, prefill_chunk=16)
    with pytest.raises(ValueError, match="expected a model that reads them, found a gemma2"):
        served.submit(ROWS[0], 1)
