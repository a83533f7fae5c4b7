"""Examples in rows: each whole, once an epoch, and the same for the same step."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.example_rows import ExampleRows, fill, laid_out
from gemwright.data.examples import Example


def example(number: int, size: int) -> Example:
    """`size` tokens are read; the second half is learned."""
    learned = [place > size // 2 for place in range(size + 1)]
    return Example([2, *([number + 10] * size)], learned, Path("x"), number)


sizes = st.lists(st.integers(1, 32), min_size=1, max_size=40)


@settings(derandomize=True, deadline=None)
@given(sizes)
def test_each_example_has_one_place_and_no_two_rows_would_fit_into_one(found: list[int]) -> None:
    rows = fill(found, range(len(found)), 32)
    assert sorted(number for row in rows for number in row) == list(range(len(found)))
    loads = sorted(sum(found[number] for number in row) for row in rows)
    assert loads[-1] <= 32
    assert len(loads) < 2 or loads[0] + loads[1] > 32  # best fit opens a row only where no other has room


@settings(derandomize=True, deadline=None)
@given(sizes, st.integers(1, 3))
def test_an_epoch_reads_each_example_once(found: list[int], epochs: int) -> None:
    rows = ExampleRows([example(n, size) for n, size in enumerate(found)], (8, 32), 64, epochs)
    read = [number for step in range(len(rows.steps)) for number in rows.numbers(step)]
    assert sorted(read) == sorted([*range(len(found))] * epochs)
    assert sum(steps for steps, _ in rows.stages) == len(rows.steps)
    assert 0 < rows.share_filled <= 1


def test_short_examples_are_read_in_short_rows() -> None:
    rows = ExampleRows([example(n, size) for n, size in enumerate([3, 30, 8, 9])], (8, 32), 32, 2)
    assert rows.stages == [(1, 8), (2, 32)] * 2
    assert rows.numbers(0) == [0, 2]
    assert rows.batch(0, 4, 8).inputs.shape == (4, 8)
    with pytest.raises(ValueError, match="step 0: expected 4 rows of 8, found 1 of 32"):
        rows.batch(0, 1, 32)


def test_the_order_is_another_in_each_epoch_and_by_each_seed() -> None:
    found = [example(n, 5) for n in range(40)]
    orders = [
        [rows.numbers(step) for step in range(first, first + 8)]
        for rows, first in ((ExampleRows(found, (8,), 40, 2, seed), first) for seed in (0, 1) for first in (0, 8))
    ]
    assert len({str(order) for order in orders}) == 4  # of 40! orders each


def test_a_row_holds_inputs_targets_positions_and_segments() -> None:
    batch = laid_out([[example(0, 2), example(1, 3)]], rows=2, length=7)
    np.testing.assert_array_equal(batch.inputs[0], [2, 10, 2, 11, 11, 0, 0])
    np.testing.assert_array_equal(batch.targets[0], [10, 10, 11, 11, 11, 0, 0])
    np.testing.assert_array_equal(batch.positions[0], [0, 1, 0, 1, 2, 0, 1])
    np.testing.assert_array_equal(batch.segments[0], [1, 1, 2, 2, 2, 0, 0])
    np.testing.assert_array_equal(batch.weights[0], [0, 1, 0, 1, 1, 0, 0])
    assert not np.any(batch.weights[1])


@pytest.mark.parametrize(
    ("lengths", "tokens", "reason"),
    [
        ((8,), 32, r"expected to ascend to 30 or more"),
        ((32, 8), 32, "ascend"),
        ((8, 32), 48, "a multiple of each length"),
    ],
)
def test_lengths_that_do_not_fit_are_refused(lengths: tuple[int, ...], tokens: int, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        ExampleRows([example(0, 30)], lengths, tokens, 1)
