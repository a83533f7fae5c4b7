"""Pictures between texts, read into a session in chunks: the logits are those of one pass over all of a row."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.inference.generate import decode
from gemwright.inference.interleaved import Row, advance_to, mark_of, read_rows
from gemwright.inference.sampling import Sampling
from gemwright.inference.session import ContextFull, Session
from gemwright.inference.speculative import PromptLookup, decode_speculatively
from tests.parity.cases import MODERATE
from tests.parity.interleaved import ours
from tests.parity.interleaved.cases import (
    FAMILIES,
    GREEDY,
    LAYOUTS,
    ROWS,
    Family,
    pixels_of,
    places_of,
    tokens_of,
    weights_of,
)  # fmt: skip
from tests.parity.pictures.stored import stored
from tests.tolerances import SAME

SHORT = FAMILIES[0]  # its window is shorter than a picture


def session_of(family: Family, rows: int = 1, **options: int) -> Session:
    return Session(weights_of(family, 0, MODERATE), family.config, rows, **options)


def rows_of(family: Family, drawn: np.ndarray | None = None) -> list[Row]:
    """Those that the parity cases read in one pass."""
    pixels, rows = pixels_of(family.config.vision, 0), list[Row]()
    drawn = tokens_of(family, 0) if drawn is None else drawn
    for tokens, places, length in zip(drawn, places_of(family), family.lengths, strict=True):
        numbers = np.where(places >= 0, places // family.config.picture_tokens, -1)[:length].tolist()
        marks = {number: mark_of(pixels[number]) for number in set(numbers) if number >= 0}
        row = [marks.get(number, token) for number, token in zip(numbers, tokens.tolist(), strict=False)]
        rows.append(Row(row, {mark: pixels[number] for number, mark in marks.items()}))
    return rows


def row_of(family: Family, *parts: Sequence[int] | int) -> Row:
    """Texts, and pictures by number."""
    pixels, tokens, pictures = pixels_of(family.config.vision, 0), list[int](), dict[int, np.ndarray]()
    for part in parts:
        if isinstance(part, int):
            pictures[mark_of(pixels[part])] = pixels[part]
            tokens += [mark_of(pixels[part])] * family.config.picture_tokens
        else:
            tokens += part
    return Row(tokens, pictures)


def one_pass(family: Family, row: Row) -> np.ndarray:
    """(V,) logits after a row, by one call without a cache."""
    marks = list(row.pictures)
    places, seen = [], dict.fromkeys(marks, 0)
    for token in row.tokens:
        places.append(marks.index(token) * family.config.picture_tokens + seen[token] if token < 0 else -1)
        if token < 0:
            seen[token] = (seen[token] + 1) % family.config.picture_tokens
    weights = weights_of(family, 0, MODERATE)
    pictures = ours.features(weights, jnp.asarray(np.stack([row.pictures[mark] for mark in marks])), family.config)
    tokens = np.maximum(np.array([row.tokens]), 0)
    arrays = jnp.asarray(tokens), pictures, jnp.array([places]), jnp.arange(len(places))[None]
    logits, _ = ours.run(weights, *arrays, None, family.config)
    return np.asarray(logits)[0, -1]


def test_greedy_answers_are_the_oracles() -> None:
    family, kept = SHORT, stored(SHORT.name)
    weights, session = weights_of(family, 0), Session(weights_of(family, 0), family.config, ROWS)
    read_rows(session, weights, family.config, rows_of(family, kept["prompts"][0]))
    chosen = [step.tokens for step in decode(session, GREEDY)]
    np.testing.assert_array_equal(np.array(chosen).T, kept["greedy"][0])


def test_rows_with_different_pictures_are_as_in_one_pass() -> None:
    family = SHORT
    weights, session = weights_of(family, 0, MODERATE), session_of(family, ROWS)
    read_rows(session, weights, family.config, rows_of(family))
    whole = ours.whole(weights, family, pixels_of(family.config.vision, 0), tokens_of(family, 0))
    expected = np.stack([row[-1] for row in whole])
    np.testing.assert_allclose(session.logits(), expected, rtol=0, atol=SAME)
    assert [len(row) for row in session.tokens] == family.lengths
    assert {len(layout) for layout in LAYOUTS} == {2, 3, 4}, "the rows differ in their pictures"


def test_long_texts_are_read_in_chunks_and_pictures_whole() -> None:
    family = SHORT
    text = [int(token) for token in np.random.default_rng(0).integers(3, 67, 290)]
    row, session = row_of(family, [2, 5], 0, text, 1, 2, text[:40]), session_of(family)
    read_rows(session, weights_of(family, 0, MODERATE), family.config, [row])
    np.testing.assert_allclose(session.logits()[0], one_pass(family, row), rtol=0, atol=SAME)


def test_a_conversation_keeps_the_pictures_it_holds() -> None:
    family = SHORT
    weights, session = weights_of(family, 0, MODERATE), session_of(family)
    first, more = row_of(family, [2], 0, [7, 8, 9]), row_of(family, [2], 0, [7, 8, 9], [11, 12], 1, [13])
    assert advance_to(session, weights, family.config, first, {}) == 0
    assert advance_to(session, weights, family.config, more, {}) == len(first.tokens)
    np.testing.assert_allclose(session.logits()[0], one_pass(family, more), rtol=0, atol=SAME)


def test_another_picture_is_not_taken_for_the_one_that_is_held() -> None:
    family = FAMILIES[1]
    weights, session = weights_of(family, 0, MODERATE), session_of(family)
    first, other = row_of(family, [2, 5], 0, [7]), row_of(family, [2, 5], 1, [7])
    advance_to(session, weights, family.config, first, {})
    assert advance_to(session, weights, family.config, other, {}) == 2
    np.testing.assert_allclose(session.logits()[0], one_pass(family, other), rtol=0, atol=SAME)


def test_answers_go_on_from_pictures_with_guesses_and_without() -> None:
    family = SHORT
    weights, row = weights_of(family, 0, MODERATE), row_of(SHORT, [2, *[7, 8, 9] * 4], 0, [*[7, 8, 9] * 2])
    answers: list[list[int | None]] = []
    for run in (decode, lambda *rest: decode_speculatively(rest[0], PromptLookup(), *rest[1:])):
        session = session_of(family)
        read_rows(session, weights, family.config, [row])
        answers.append([step.tokens[0] for step in run(session, 20, Sampling(repetition_penalty=1.3))])
    assert answers[0] == answers[1]


def test_a_picture_is_never_guessed_after_what_stood_before_one() -> None:
    family = SHORT
    row = row_of(family, [2, 7, 8], 0, [9, 7, 8])
    assert PromptLookup().propose(row.tokens, 4, 0, Sampling())[0] < 0, "the text goes on with a picture there"
    session = session_of(family)
    read_rows(session, weights_of(family, 0, MODERATE), family.config, [row])
    assert len(list(decode_speculatively(session, PromptLookup(), 8))) == 8


def test_a_cache_of_8_bits_reads_pictures_too() -> None:
    family, row = SHORT, rows_of(SHORT)[0]
    weights = weights_of(family, 0, MODERATE)
    sessions = [session_of(family), session_of(family, cache_bits=8)]
    for session in sessions:
        read_rows(session, weights, family.config, [row])
    found = [np.asarray(session.logits()[0]) for session in sessions]
    assert 0 < np.abs(found[0] - found[1]).max() < 0.2 * np.abs(found[0]).max()


def test_what_does_not_fit_the_context_is_refused_before_anything_is_read() -> None:
    family = SHORT
    config = dataclasses.replace(family.config, decoder=dataclasses.replace(family.config.decoder, max_positions=20))
    session = Session(weights_of(family, 0), config, 1)
    with pytest.raises(ContextFull):
        read_rows(session, weights_of(family, 0), config, [row_of(family, [2], 0, [5], 1, [6])])
    assert session.tokens == [[]]


def test_equal_pictures_have_one_mark_and_others_another() -> None:
    pixels = pixels_of(SHORT.config.vision, 0)
    assert mark_of(pixels[0]) == mark_of(pixels[0].copy()) != mark_of(pixels[1])
    assert mark_of(pixels[0]) < 0
