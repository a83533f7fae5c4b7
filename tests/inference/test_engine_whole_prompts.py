"""Requests whose whole prompt sees all of itself, pictures in front: read in one call, beside requests of text."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import numpy as np
import pytest

from gemwright.core.lora import Lora, map_lora
from gemwright.inference import prompts as rooms
from gemwright.inference.engine import Engine
from gemwright.inference.generate import decode
from gemwright.inference.interleaved import Row, mark_of
from gemwright.inference.pictures import read_pictures, row_of
from gemwright.inference.request import Request
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import ContextFull, Session
from gemwright.models.paligemma import PaliGemma
from gemwright.tuning.lora import Plan, adapt, together
from tests.inference.eager import Eager
from tests.inference.test_engine import chosen, finish_all
from tests.inference.test_session import ids
from tests.tiny import PALIGEMMA, sharp_weights
from tests.tolerances import SAME

NEW = 9
PENALISED = Sampling(temperature=0.8, repetition_penalty=1.5, seed=4)
PIXELS = np.random.default_rng(0).uniform(-1, 1, (3, 28, 28, 3)).astype(np.float32)
PATCHES = PALIGEMMA.picture_tokens


@cache
def weights() -> PaliGemma:
    return sharp_weights(PALIGEMMA)


def shown(numbers: Sequence[int], text: Sequence[int]) -> Row:
    """Pictures by number before a text."""
    return row_of([PIXELS[number] for number in numbers], text, PALIGEMMA)


def alone(row: Row, new: int = NEW, sampling: Sampling = GREEDY, model: Any = None) -> tuple[list[int], list[float]]:
    """Tokens and their log-probabilities, as `generate` finds them."""
    model = model or weights()
    session = Session(model, PALIGEMMA, 1, 128)
    if row.pictures:
        read_pictures(session, model, PALIGEMMA, [row])
    else:
        session.extend([row.tokens])
    steps = list(decode(session, new, sampling))
    return [step.tokens[0] or 0 for step in steps], [step.log_probabilities[0] for step in steps]


def check(request: Request, row: Row, sampling: Sampling = GREEDY, new: int = NEW, model: Any = None) -> None:
    tokens, log_probabilities = alone(row, new, sampling, model)
    assert chosen(request) == tokens
    scores = [token.log_probability for token in request.result(0)]
    np.testing.assert_allclose(scores, log_probabilities, rtol=0, atol=1e-4)


def engine(slots: int = 2, model: Any = None, **options: Any) -> Engine:
    """Its passes all have one length, so that few programs are compiled; every guess is made."""
    served = Engine(model or weights(), PALIGEMMA, slots=slots, capacity=128, prefill_chunk=16, **options)
    served._passes = Eager(16)  # pyright: ignore[reportAttributeAccessIssue]
    return served


@pytest.fixture
def running() -> Iterator[Engine]:
    with engine() as served:
        yield served


ROWS = (
    shown([0], [2, 7, 8, 9]),
    Row(ids(40)),
    shown([0, 1], [2, *ids(30), 5]),  # 64 tokens: the ring of 39 turns within the prompt, whose window is 24
    shown([1], [2, 7, 8, 9]),
    Row([2, 7, 8, 9]),
    shown([0], [2, 7, 8, 10]),
)


def test_a_whole_prompt_gets_what_it_gets_alone_beside_others() -> None:
    """Six requests for two rows: texts, one picture or two, longer and shorter than a window, by chance or greedy."""
    served, requests = engine(), list[tuple[Request, Row, Sampling]]()
    for index, row in enumerate(ROWS):
        sampling = PENALISED if index % 2 else GREEDY
        requests.append((served.submit(row, NEW, sampling), row, sampling))
        served.step()
    finish_all(served)
    for request, row, sampling in requests:
        check(request, row, sampling)
    first, other = (requests[number][0].result(0)[0].log_probability for number in (0, 5))
    assert abs(first - other) > 0.01, "a prompt's last token alone differs, and is seen"


def test_two_pictures_are_read_at_once_and_an_answer_goes_on_meanwhile() -> None:
    served = engine(slots=3)
    text = served.submit(ids(5), 40)
    served.step()
    before = len(text._tokens)
    pair = [served.submit(ROWS[index], NEW) for index in (0, 3)]
    served.step()
    served.step()
    assert served.prefilled == 4 + 2 * (PATCHES + 4), "each in one call, its last token too"
    assert len(text._tokens) >= before + 2
    finish_all(served)
    for request, index in zip(pair, (0, 3), strict=True):
        check(request, ROWS[index])
    check(text, Row(ids(5)), new=40)


def test_only_an_equal_prompt_is_shared_with_its_pictures() -> None:
    """What a patch becomes depends on the whole prompt: another question about the same picture is read anew."""
    served = engine(slots=3)
    first, again, other = served.submit(ROWS[0], 3), *(served.submit(ROWS[index], 3, PENALISED) for index in (0, 5))
    finish_all(served)
    assert (again.shared, other.shared) == (PATCHES + 4, 0)
    assert served.prefilled == 2 * (PATCHES + 4)
    check(first, ROWS[0], new=3)
    for request, index in ((again, 0), (other, 5)):
        check(request, ROWS[index], PENALISED, new=3)
    late = served.submit(ROWS[0], 3)  # into the row that held it before
    finish_all(served)
    assert late.shared == PATCHES + 4
    check(late, ROWS[0], new=3)


def test_marks_made_by_another_do_not_make_prompts_share() -> None:
    served = engine(slots=1)
    rows = [Row([mark_of(PIXELS[0])] * PATCHES + [2, 7, end], {mark_of(PIXELS[0]): PIXELS[0]}) for end in (5, 6)]
    for row in rows:
        request = served.submit(row, 3)
        finish_all(served)
        assert request.shared == 0
        check(request, row, new=3)


def test_cancelled_requests_leave_their_row_to_others() -> None:
    served = engine(slots=1)
    waiting, reading, answering = (served.submit(row, NEW) for row in (ROWS[3], ROWS[2], ROWS[0]))
    waiting.cancel()
    served._admit()
    reading.cancel()  # admitted, and not read yet
    while not answering._tokens:
        served.step()
    answering.cancel()
    last = served.submit(ROWS[5], NEW)
    finish_all(served)
    assert [request.finish for request in (waiting, reading, answering)] == ["cancelled"] * 3
    check(last, ROWS[5])


def test_a_prompt_longer_than_a_row_is_refused_and_the_engine_stays_up(running: Engine) -> None:
    with pytest.raises(ContextFull, match="129 tokens do not fit the engine's rows of 128"):
        running.submit(shown([0], [2] * 113), 1)
    full = running.submit(shown([0], [2, *ids(111)]), NEW)
    assert len(full.result(60)) == 1
    assert full.finish == "length"
    tokens, _ = alone(ROWS[0])
    assert [token.id for token in running.submit(ROWS[0], NEW).result(60)] == tokens


def test_an_answer_goes_on_where_a_failed_program_took_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    served, real = engine(), rooms.read_row

    def read_row(weights: Any, caches: Any, *rest: Any) -> Any:
        if np.asarray(rest[1])[0, 0] == 700:
            caches[0].keys.delete()
            raise RuntimeError("out of memory")
        return real(weights, caches, *rest)

    monkeypatch.setattr(rooms, "read_row", read_row)
    seen = served.submit(ROWS[2], NEW)
    served.step()
    assert seen._tokens
    failed = served.submit([700, 2], NEW)
    finish_all(served)
    assert failed.finish == "error"
    check(seen, ROWS[2])


def test_each_request_has_its_own_adapter_in_tower_and_decoder() -> None:
    def changed(name: str, weight: Lora) -> Lora:
        return replace(weight, b=0.3 * jax.random.normal(jax.random.key(len(name)), weight.b.shape))

    plan = Plan(rank=2, targets=("vision.*.output", "projector.matrix", "*.mlp.down"))
    adapted = map_lora(changed, adapt(PALIGEMMA, weights(), plan))
    served = engine(model=together(PALIGEMMA, weights(), [adapted]))
    requests = [served.submit(ROWS[0], 3, adapter=number) for number in (0, 1)]
    finish_all(served)
    assert requests[1].shared == 0, "an adapter's prompt is its own"
    for request, model in zip(requests, (weights(), adapted), strict=True):
        check(request, ROWS[0], new=3, model=model)


def test_a_cache_of_8_bits_is_rounded_behind_the_prompt_as_alone() -> None:
    served = engine(cache_bits=8)
    request = served.submit(ROWS[0], 1)
    finish_all(served)
    _, scores = alone(ROWS[0], 1)
    np.testing.assert_allclose(request.result(0)[0].log_probability, scores[0], rtol=0, atol=SAME)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (Row([2, *[-7] * PATCHES, 5], {-7: PIXELS[0]}), "text before a picture: a paligemma2 reads"),
        (shown([0], []), "ends in a picture: expected at least one token of text"),
        (Row([-7] * 9 + [5], {-7: PIXELS[0]}), "its mark 16 times, found 9 times"),
        (Row([-7] * 16 + [5]), "token -7 is not in the vocabulary"),
        (Row([-7] * 16 + [5], {-7: PIXELS[0][:20]}), r"expected pixels of \(28, 28, 3\), found \(20, 28, 3\)"),
    ],
)  # fmt: skip
def test_a_prompt_whose_pictures_do_not_fit_is_refused(row: Row, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        engine().submit(row, 1)
