"""Rows come from sources in the stages' proportions, each source's rows in turn, the same after any interruption."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.mixture import Mixture, MixtureStage
from gemwright.data.packing import Rows

BOS = 1


def mixture(*stages: MixtureStage) -> Mixture:
    streams = {"books": 100, "code": 1000, "web": 10_000}
    sources = {
        name: Rows(np.arange(begin, begin + 8 * 50 + 1).astype(np.uint16), BOS, seed)
        for seed, (name, begin) in enumerate(streams.items())
    }
    return Mixture(sources, stages)


weights = st.dictionaries(st.sampled_from(["books", "code", "web"]), st.floats(0.01, 10), min_size=1)


@settings(deadline=None, max_examples=60, derandomize=True)
@given(first=weights, second=weights, steps=st.integers(1, 40), rows=st.integers(1, 7))
def test_rows_come_in_the_proportions_of_their_stage_and_each_source_in_turn(
    first: dict[str, float], second: dict[str, float], steps: int, rows: int
) -> None:
    mixed = mixture(MixtureStage(steps, first), MixtureStage(1, second))
    places = [place for step in range(steps + 30) for place in mixed.places(step, rows)]
    for part, shares in ((places[: steps * rows], first), (places[steps * rows :], second)):
        counts = Counter(source for source, _ in part)
        for name in ("books", "code", "web"):
            expected = len(part) * shares.get(name, 0) / sum(shares.values())
            assert abs(counts[name] - expected) <= 4, "multiples of the golden ratio stray by few"
    for name in ("books", "code", "web"):
        numbers = [number for source, number in places if source == name]
        assert numbers == list(range(len(numbers))), "no row is left out or dealt twice"


def test_a_steps_batch_holds_the_rows_of_its_places() -> None:
    mixed = mixture(MixtureStage(3, {"books": 3, "web": 1}), MixtureStage(1, {"code": 1}))
    for step in (0, 20, 3, 2):  # whatever was asked for before
        batch = mixed.batch(step, 4, 8)
        for row, (source, number) in zip(np.asarray(batch.inputs), mixed.places(step, 4), strict=True):
            assert row.tolist() == mixed.sources[source].row(number, 8)[:-1].tolist()
    assert {source for source, _ in mixed.places(3, 4)} == {"code"}


def test_longer_rows_go_on_at_the_same_share_of_each_source() -> None:
    mixed = mixture(MixtureStage(5, {"books": 1}), MixtureStage(5, {"books": 1, "web": 3}))
    short, long = mixed.epochs(10, 8, 8), mixed.epochs(10, 2, 32)
    assert all(abs(short[name] - long[name]) <= 32 / 401 for name in short)


def test_epochs_say_how_often_each_source_was_read() -> None:
    mixed = mixture(MixtureStage(50, {"books": 1, "web": 1}), MixtureStage(1, {"code": 1}))
    assert mixed.epochs(0, 4, 8) == {"books": 0, "code": 0, "web": 0}
    done = mixed.epochs(100, 4, 8)
    assert done["books"] == pytest.approx(100 * 8 / 401, abs=0.1)
    assert done["code"] == pytest.approx(200 * 8 / 401, abs=0.1)


@pytest.mark.parametrize("wrong", [{"typo": 1.0}, {"books": 0.0}, {"books": -1.0, "web": 2.0}])
def test_weights_that_make_no_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected weights of"):
        mixture(MixtureStage(1, wrong))
