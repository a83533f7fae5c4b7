"""A cache of 8 bits: close to one of floats, the same however tokens get into it, and half as large."""

from dataclasses import replace

import jax
import numpy as np
import pytest

import gemwright
from gemwright.inference.engine import Engine
from gemwright.inference.generate import decode
from gemwright.inference.session import Session
from gemwright.inference.speculative import decode_speculatively
from gemwright.model import Model
from tests.inference.eager import Eager
from tests.inference.test_engine import SAMPLINGS, finish_all
from tests.inference.test_session import ids
from tests.inference.test_speculative import Knowing
from tests.tiny import uncached_logits

TEXT = [*ids(30), *ids(30)]


@pytest.fixture
def small(tiny: Model) -> Model:
    return replace(tiny, cache_bits=8)


def read(model: Model, tokens: list[int], *lengths: int) -> Session:
    session = model.session(capacity=128)
    for start, end in zip((0, *lengths), (*lengths, len(tokens)), strict=True):
        session.extend([tokens[start:end]])
    return session


def answer(model: Model, tokens: list[int], new: int, index: int) -> list[int]:
    return [step.tokens[0] or 0 for step in decode(read(model, tokens), new, SAMPLINGS[index])]


def test_its_logits_are_close_to_those_of_floats(small: Model) -> None:
    """Sharp weights amplify: of logits whose spread is some 10, and which another token moves by as much."""
    found, exact = np.asarray(read(small, TEXT).logits())[0], uncached_logits(small, TEXT)[-1]
    assert 1e-4 < np.abs(found - exact).max() < 0.1 * exact.std()
    assert np.abs(uncached_logits(small, TEXT[:-1])[-1] - exact).max() > exact.std()


def test_a_text_gives_the_same_in_one_piece_in_many_and_after_going_back(small: Model) -> None:
    expected = np.asarray(read(small, TEXT).logits())
    np.testing.assert_allclose(np.asarray(read(small, TEXT, 1, 2, 20, 57).logits()), expected, rtol=0, atol=1e-4)
    back = read(small, ids(22))
    back.advance_to([*ids(22)[:10], *TEXT[10:]])
    fresh = read(small, [*ids(22)[:10], *TEXT[10:]])
    np.testing.assert_allclose(np.asarray(back.logits()), np.asarray(fresh.logits()), rtol=0, atol=1e-4)


@pytest.mark.parametrize("index", [0, 1])
def test_guesses_and_the_engine_give_what_plain_decoding_gives(small: Model, index: int) -> None:
    expected = answer(small, TEXT, 12, index)
    steps = decode_speculatively(read(small, TEXT), Knowing(expected, 3), 12, SAMPLINGS[index], passes=Eager())  # pyright: ignore
    assert [step.tokens[0] for step in steps] == expected
    served = Engine(small.weights, small.config, 2, 128, 16, cache_bits=8)
    served._passes = Eager(16)  # pyright: ignore[reportAttributeAccessIssue]
    requests = [served.submit(TEXT, 12, SAMPLINGS[index]), served.submit(TEXT, 5, SAMPLINGS[index])]
    finish_all(served)
    assert [[token.id for token in one.result(0)] for one in requests] == [expected, expected[:5]]


def test_a_model_loaded_so_keeps_its_texts_so_and_grows(bare_folder, tiny: Model) -> None:
    model = gemwright.load(bare_folder, cache_bits=8)
    assert model.generate_ids(ids(9), 5) == answer(replace(tiny, cache_bits=8), ids(9), 5, 0)
    session = replace(model, config=replace(model.config, max_positions=1024)).session(capacity=100)
    before = sum(leaf.nbytes for leaf in jax.tree.leaves(session.state.caches))
    session.extend([[*ids(100), *ids(100), *ids(100)]])
    assert session.state.caches[0].keys.dtype == np.int8
    assert sum(leaf.nbytes for leaf in jax.tree.leaves(session.state.caches)) > before


def test_another_number_of_bits_is_refused(bare_folder) -> None:
    with pytest.raises(ValueError, match="cache_bits: expected 8, found 4"):
        gemwright.load(bare_folder, cache_bits=4)
