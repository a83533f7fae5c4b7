"""A session that begins with pictures goes on as the oracle does."""

import dataclasses

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.inference.generate import decode
from gemwright.inference.interleaved import Row
from gemwright.inference.pictures import read_pictures, row_of
from gemwright.inference.session import ContextFull, Session
from tests.parity.cases import MODERATE
from tests.parity.pictures import ours
from tests.parity.pictures.cases import GREEDY, PAIRS, PROMPTS, ROWS, Pair, pair_weights, pixels_of
from tests.parity.pictures.stored import stored
from tests.tolerances import SAME

BLACK = np.zeros((21, 21, 3), np.float32)
each = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


def session_of(pair: Pair, rows: int, **options: int) -> Session:
    return Session(pair_weights(pair, 0).decoder, pair.config.decoder, rows, **options)


def rows_of(pair: Pair) -> list[Row]:
    shown = zip(pixels_of(pair.config.vision, 0), stored(pair.name)["prompts"][0], PROMPTS, strict=True)
    return [row_of([pixels], row[:length].tolist(), pair.config) for pixels, row, length in shown]


@each
def test_greedy_answers_are_the_oracles(pair: Pair) -> None:
    session = session_of(pair, ROWS)
    read_pictures(session, pair_weights(pair, 0), pair.config, rows_of(pair))
    chosen = [step.tokens for step in decode(session, GREEDY)]
    np.testing.assert_array_equal(np.array(chosen).T, stored(pair.name)["greedy"][0])
    assert [len(row) for row in session.tokens] == [
        pair.config.vision.patches + length + GREEDY - 1 for length in PROMPTS
    ]


def test_rows_of_one_batch_answer_as_each_alone() -> None:
    pair = PAIRS[1]
    weights = pair_weights(pair, 0)
    for row in range(ROWS):
        session = session_of(pair, 1)
        read_pictures(session, weights, pair.config, rows_of(pair)[row : row + 1])
        chosen = [step.tokens[0] for step in decode(session, 8)]
        assert chosen == stored(pair.name)["greedy"][0][row][:8].tolist()


def test_a_cache_of_8_bits_is_read_too() -> None:
    pair = PAIRS[1]
    session = session_of(pair, ROWS, cache_bits=8)
    read_pictures(session, pair_weights(pair, 0), pair.config, rows_of(pair))
    first = next(iter(decode(session, 1))).tokens
    assert first == stored(pair.name)["greedy"][0][:, 0].tolist()  # a prefix is attended to before it is rounded


def test_a_picture_cannot_follow_text() -> None:
    pair = PAIRS[0]
    session = session_of(pair, 1)
    session.extend([[2, 5]])
    with pytest.raises(ValueError, match="expected an empty session"):
        read_pictures(session, pair_weights(pair, 0), pair.config, rows_of(pair)[:1])


def test_a_prompt_is_needed_behind_a_picture() -> None:
    pair = PAIRS[0]
    with pytest.raises(ValueError, match="expected a prompt of 1 token or more behind the pictures, found none"):
        read_pictures(session_of(pair, 1), pair_weights(pair, 0), pair.config, [row_of([BLACK], [], pair.config)])


def test_rows_have_as_many_pictures_each() -> None:
    pair = PAIRS[0]
    rows = [row_of([BLACK] * count, [2, 3], pair.config) for count in (1, 2)]
    with pytest.raises(ValueError, match=r"expected as many pictures before each prompt, found \[1, 2\]"):
        read_pictures(session_of(pair, 2), pair_weights(pair, 0), pair.config, rows)


def test_a_long_prompt_behind_two_pictures_is_read_whole() -> None:
    """All of it sees all of it, so the last state depends on its first token as one pass without a cache says."""
    pair, prompt = PAIRS[0], [2, *range(4, 60)] * 5
    weights, pixels = pair_weights(pair, 0, MODERATE), pixels_of(pair.config.vision, 0)
    session = Session(weights.decoder, pair.config.decoder, 1)
    read_pictures(session, weights, pair.config, [row_of(list(pixels), prompt, pair.config)])
    given = jnp.asarray(pixels), jnp.array([prompt]), jnp.array([len(prompt)]), jnp.array([len(prompt)])
    logits, _ = ours.run(weights, *given, None, pair.config)
    np.testing.assert_allclose(session.logits()[0], logits[0, -1], rtol=0, atol=SAME)


def test_a_picture_that_does_not_fit_the_context_is_refused() -> None:
    pair = PAIRS[0]
    decoder = dataclasses.replace(pair.config.decoder, max_positions=10)
    session = Session(pair_weights(pair, 0).decoder, decoder, 1)
    with pytest.raises(ContextFull):
        read_pictures(session, pair_weights(pair, 0), pair.config, [row_of([BLACK], [2, 3], pair.config)])
