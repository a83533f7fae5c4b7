"""A session that begins with pictures goes on as the oracle does."""

import dataclasses

import numpy as np
import pytest

from gemwright.inference.generate import decode
from gemwright.inference.pictures import read_pictures
from gemwright.inference.session import ContextFull, Session
from tests.parity.pictures.cases import GREEDY, PAIRS, PROMPTS, ROWS, Pair, pair_weights, pixels_of
from tests.parity.pictures.stored import stored

each = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def session_of(pair: Pair, rows: int, **options: int) -> Session:
    return Session(pair_weights(pair, 0).decoder, pair.config.decoder, rows, **options)


def prompts_of(pair: Pair) -> list[list[int]]:
    return [row[:length].tolist() for row, length in zip(stored(pair.name)["prompts"][0], PROMPTS, strict=True)]


@each
def test_greedy_answers_are_the_oracles(pair: Pair) -> None:
    session, pixels = session_of(pair, ROWS), pixels_of(pair.config.vision, 0)
    read_pictures(session, pair_weights(pair, 0), pair.config, pixels, prompts_of(pair))
    chosen = [step.tokens for step in decode(session, GREEDY)]
    np.testing.assert_array_equal(np.array(chosen).T, stored(pair.name)["greedy"][0])
    assert [len(row) for row in session.tokens] == [
        pair.config.vision.patches + length + GREEDY - 1 for length in PROMPTS
    ]


def test_rows_of_one_batch_answer_as_each_alone() -> None:
    pair = PAIRS[1]
    pixels, prompts, weights = pixels_of(pair.config.vision, 0), prompts_of(pair), pair_weights(pair, 0)
    for row in range(ROWS):
        session = session_of(pair, 1)
        read_pictures(session, weights, pair.config, pixels[row : row + 1], prompts[row : row + 1])
        chosen = [step.tokens[0] for step in decode(session, 8)]
        assert chosen == stored(pair.name)["greedy"][0][row][:8].tolist()


def test_a_cache_of_8_bits_is_read_too() -> None:
    pair = PAIRS[1]
    session = session_of(pair, ROWS, cache_bits=8)
    read_pictures(session, pair_weights(pair, 0), pair.config, pixels_of(pair.config.vision, 0), prompts_of(pair))
    first = next(iter(decode(session, 1))).tokens
    assert first == stored(pair.name)["greedy"][0][:, 0].tolist()  # a prefix is attended to before it is rounded


def test_a_picture_cannot_follow_text() -> None:
    pair = PAIRS[0]
    session = session_of(pair, 1)
    session.extend([[2, 5]])
    with pytest.raises(ValueError, match="expected an empty session"):
        read_pictures(session, pair_weights(pair, 0), pair.config, pixels_of(pair.config.vision, 0)[:1], [[2]])


@pytest.mark.parametrize("length", [0, 257])
def test_a_prompt_is_read_at_once(length: int) -> None:
    pair = PAIRS[0]
    with pytest.raises(ValueError, match=f"expected a prompt of 1 to .* tokens, found {length}"):
        read_pictures(session_of(pair, 1), pair_weights(pair, 0), pair.config, np.zeros((1, 21, 21, 3)), [[2] * length])


def test_a_picture_that_does_not_fit_the_context_is_refused() -> None:
    pair = PAIRS[0]
    decoder = dataclasses.replace(pair.config.decoder, max_positions=10)
    session = Session(pair_weights(pair, 0).decoder, decoder, 1)
    with pytest.raises(ContextFull):
        read_pictures(session, pair_weights(pair, 0), pair.config, np.zeros((1, 21, 21, 3)), [[2, 3]])
