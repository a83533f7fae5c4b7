"""A model with a recurrent state in session, conversation and engine: what cannot be cut is read again or kept."""

from collections.abc import Iterator
from functools import cache
from typing import Any

import numpy as np
import pytest

from gemwright.conversation import Conversation
from gemwright.inference.engine import Engine
from gemwright.inference.generate import decode
from gemwright.inference.request import Request
from gemwright.inference.sampling import GREEDY, Sampling
from gemwright.inference.session import Session
from gemwright.inference.speculative import PromptLookup, decode_speculatively, decode_with_guesses
from gemwright.model import Model
from gemwright.models import griffin
from gemwright.text.chat import format_chat
from gemwright.text.tokenizer import Tokenizer
from tests.inference.steps import by_steps, in_bursts
from tests.inference.test_session import assert_holds, ids, start
from tests.tiny import GRIFFIN, sharp_weights

SAMPLINGS = (GREEDY, Sampling(temperature=0.8, seed=1), Sampling(temperature=0.6, repetition_penalty=1.5, seed=4))


@pytest.fixture(scope="module")
def model(tiny: Model, tiny_tokenizer: Tokenizer) -> Model:
    return Model(GRIFFIN, _weights(), tiny.folder, tiny_tokenizer)


@cache
def _weights() -> griffin.Griffin:
    return sharp_weights(GRIFFIN)


def answer(prompt: list[int], new: int, sampling: Sampling = GREEDY) -> list[int]:
    return list(_answer(tuple(prompt), new, sampling))


@cache
def _answer(prompt: tuple[int, ...], new: int, sampling: Sampling) -> tuple[int, ...]:
    session = Session(_weights(), GRIFFIN, 1, 128)
    session.extend([prompt])
    return tuple(token for chosen in decode(session, new, sampling) for token in chosen.tokens if token is not None)


# ----------------------------------------------------------------------------------------- session


@pytest.mark.parametrize("length", [1, 2, 15, 17, 24, 70])
def test_any_prompt_length_gives_the_logits_of_one_pass(model: Model, length: int) -> None:
    assert_holds(start(model, ids(length)), model, ids(length))


def test_rows_of_unequal_length_are_as_each_alone(model: Model) -> None:
    rows, added = [ids(3), ids(40), ids(1), ids(23)], [[300], [], [301, 302], [303] * 20]
    session = Session(model.weights, model.config, len(rows), 128)
    session.extend(rows)
    session.extend(added)
    for index, (row, more) in enumerate(zip(rows, added, strict=True)):
        alone = start(model, [*row, *more])
        np.testing.assert_allclose(session.logits()[index], alone.logits()[0], rtol=0, atol=1e-4)


def test_a_cache_that_grows_gives_the_same_as_one_made_large(model: Model) -> None:
    session = start(model, ids(250))
    for token in ids(280)[250:]:
        session.extend([[token]])
    assert session.capacity == 512
    assert_holds(session, model, [*ids(250), *ids(280)[250:]])


def test_a_text_that_goes_on_reads_what_is_new_alone(model: Model) -> None:
    session = start(model, ids(40))
    assert session.advance_to([*ids(40), 300, 301]) == 40
    assert_holds(session, model, [*ids(40), 300, 301])


def test_another_end_starts_anew(model: Model) -> None:
    session = start(model, ids(40))
    assert session.advance_to([*ids(40)[:30], 300]) == 0
    assert_holds(session, model, [*ids(40)[:30], 300])


def test_an_answer_that_is_taken_back_leaves_the_prompt_read(model: Model) -> None:
    """As often as it is taken back, though the cache has grown meanwhile."""
    session, prompt = Session(model.weights, model.config, 1), ids(240)
    session.advance_to(prompt)
    for token in (300, 301):
        list(decode(session, 30))
        assert session.capacity == 512
        assert session.advance_to([*prompt, token]) == len(prompt)
        prompt = [*prompt, token]
        assert_holds(session, model, prompt)
    assert session.advance_to([*prompt[:20], 303]) == 0
    assert_holds(session, model, [*prompt[:20], 303])


def test_an_emptied_session_has_nothing_to_go_back_to(model: Model) -> None:
    session = start(model, ids(20))
    session.advance_to(ids(20))
    session.clear()
    session.extend([ids(30)])
    assert session.advance_to([*ids(30)[:25], 300]) == 0
    assert_holds(session, model, [*ids(30)[:25], 300])


def test_guesses_are_left_out_and_refused(model: Model) -> None:
    prompt = [*ids(20), *ids(20)]
    found = [chosen.tokens[0] for chosen in decode_with_guesses(start(model, prompt), 12)]
    assert found == answer(prompt, 12)
    with pytest.raises(ValueError, match="a recurrent_gemma cannot take wrong guesses back"):
        next(decode_speculatively(start(model, prompt), PromptLookup(), 3))


def test_bursts_are_single_steps(model: Model) -> None:
    prompts = [ids(3), ids(40), ids(20)]

    def tokens(how: Any) -> list[list[int | None]]:
        session = Session(model.weights, model.config, 3, 128)
        session.extend(prompts)
        return [step.tokens for step in how(session, 20, Sampling(temperature=0.9, seed=3), (700,))]

    assert tokens(in_bursts) == tokens(by_steps)


def test_a_cache_of_8_bits_keeps_the_state_as_it_is(model: Model) -> None:
    """Of the ring's codes the logits of sharp weights take up to a tenth of their deviation."""
    session = Session(model.weights, model.config, 1, 128, cache_bits=8)
    session.extend([ids(60)])
    exact = np.asarray(start(model, ids(60)).logits())
    assert 1e-4 < np.abs(np.asarray(session.logits()) - exact).max() < 0.1 * exact.std()


# ------------------------------------------------------------------------------------ conversation


def test_a_conversation_reads_each_turn_once(model: Model) -> None:
    conversation = Conversation(model)
    for turn, text in enumerate(("def", "import", "class")):
        said = "".join(conversation.send(text, 6))
        prompt = format_chat(model.tokenizer, conversation.messages[:-1]).ids
        assert said == model.tokenizer.decode(answer(prompt, 6))
        assert (conversation.reused > 5) == (turn > 0)


# ------------------------------------------------------------------------------------------ engine


def finish_all(served: Engine) -> None:
    while served.step():
        pass


def chosen(request: Request) -> list[int]:
    return [token.id for token in request.result(timeout=0)]


@pytest.fixture
def served() -> Iterator[Engine]:
    engine = Engine(_weights(), GRIFFIN, slots=2, capacity=128, prefill_chunk=16)
    yield engine
    engine.close()


def test_requests_beside_each_other_get_what_each_gets_alone(served: Engine) -> None:
    """Five for two rows, some with texts that lookup would guess at; rows are used again."""
    prompts = (ids(1), [*ids(15), *ids(15)], ids(7), [*ids(25), *ids(25)], ids(18))
    requests = [served.submit(prompt, 9, SAMPLINGS[n % 3]) for n, prompt in enumerate(prompts)]
    finish_all(served)
    for number, (request, prompt) in enumerate(zip(requests, prompts, strict=True)):
        assert chosen(request) == answer(prompt, 9, SAMPLINGS[number % 3])


def test_a_row_is_lent_whole_or_not_at_all(served: Engine) -> None:
    first = served.submit(ids(30), 4)
    finish_all(served)
    held = [*ids(30), *chosen(first)]
    for prompt, shared in (([*held, 300, 301], 33), (ids(30), 0), ([*ids(30)[:20], 300], 0)):
        request = served.submit(prompt, 5)
        finish_all(served)
        assert request.shared == shared
        assert chosen(request) == answer(prompt, 5)


def test_a_row_that_still_answers_lends_its_text(served: Engine) -> None:
    running = served.submit(ids(40), 30)
    for _ in range(6):
        served.step()
    so_far = [*ids(40), *(token.id for token in running._tokens)]  # pyright: ignore[reportPrivateUsage]
    beside = served.submit([*so_far[:-1], 300, 301], 5)
    finish_all(served)
    assert beside.shared >= 40
    assert chosen(beside) == answer([*so_far[:-1], 300, 301], 5)
    assert chosen(running) == answer(ids(40), 30)
