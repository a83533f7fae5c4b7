"""Guesses are made where they pay, in the number that pays, and not where they do not."""

from itertools import pairwise

import pytest

from gemwright.inference.guessing import Odds, Passes, plan


def measured(**seconds: float) -> Passes:
    """`_8=2.0` for passes of 8 tokens."""
    passes = Passes(tuple(int(name[1:]) for name in seconds))
    for name, value in seconds.items():
        for _ in range(2):
            passes.record(int(name[1:]), value)
    return passes


def test_nothing_is_guessed_before_a_plain_pass_has_been_measured() -> None:
    passes = Passes((1, 8))
    assert plan(passes, [1.0], [7]) == [0]
    passes.record(1, 9.0)  # it compiled
    assert plan(passes, [1.0], [7]) == [0]
    passes.record(1, 1.0)
    assert plan(passes, [1.0], [7]) == [7]


def test_one_slow_pass_changes_nothing() -> None:
    passes = measured(_1=1.0)
    for _ in range(5):
        passes.record(1, 1.0)
    passes.record(1, 50.0)
    assert passes.seconds(1) == 1.0


def test_a_length_that_was_slow_once_is_tried_again_later() -> None:
    passes = measured(_1=1.0, _8=50.0)
    assert plan(passes, [1.0], [7]) == [0]
    for _ in range(64):
        passes.record(1, 1.0)
    assert plan(passes, [1.0], [7]) == [7]


@pytest.mark.parametrize(
    ("share", "most", "made"),
    [(1.0, 15, 7), (0.9, 15, 7), (0.7, 15, 3), (0.3, 15, 0), (1.0, 5, 5), (1.0, 1, 1), (0.4, 1, 0), (1.0, 0, 0)],
)
def test_the_number_of_guesses_gives_most_tokens_a_second(share: float, most: int, made: int) -> None:
    """8 tokens in twice the time of one, 4 in 1.5 times, 16 in 5 times."""
    assert plan(measured(_1=1.0, _4=1.5, _8=2.0, _16=5.0), [share], [most]) == [made]


def test_the_likeliest_guesses_of_all_texts_share_a_pass() -> None:
    passes = measured(_4=1.0, _8=1.2)
    assert plan(passes, [0.95, 0.1, 0.95], [7, 7, 7]) == [3, 0, 2]
    assert plan(passes, [0.95, 0.95, 0.1], [1, 0, 7]) == [1, 0, 0]  # the pass of 4 has room for one
    assert plan(passes, [0.1, 0.1, 0.1], [7, 0, 0]) == [1, 0, 0]
    assert plan(measured(_4=1.0, _8=3.0), [0.1, 0.1, 0.1, 0.1], [7, 7, 7, 7]) == [0, 0, 0, 0]


def guess(odds: Odds, passes: Passes, right: int, turns: int) -> list[int]:
    """How many guesses each turn made, where the first `right` of them are right."""
    made: list[int] = []
    for _ in range(turns):
        (count,) = plan(passes, [odds.share], [7])
        made.append(count)
        odds.note(count, min(count, right))
    return made


def test_guessing_goes_on_while_it_pays() -> None:
    assert guess(Odds(), measured(_1=1.0, _8=2.0), 7, 100) == [7] * 100


def test_guessing_rests_where_it_does_not_pay_and_is_tried_again_ever_more_seldom() -> None:
    made = guess(Odds(), measured(_1=1.0, _8=2.0), 0, 2000)
    tries = [turn for turn, count in enumerate(made) if count]
    assert tries[0] == 0
    assert len(tries) < 20
    pauses = [later - one for one, later in pairwise(tries) if later - one > 1]
    assert pauses == sorted(pauses)
    assert pauses[0] > 32
    assert pauses[-1] > 500


def test_guessing_comes_back_when_the_text_changes() -> None:
    odds, passes = Odds(), measured(_1=1.0, _8=2.0)
    guess(odds, passes, 0, 40)
    assert guess(odds, passes, 7, 200)[100:] == [7] * 100
