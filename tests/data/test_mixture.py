"""Mixed rows: the same for the same number, in the shares that were asked for, nothing read twice an epoch."""

import numpy as np
import pytest

from gemwright.data.mixture import Mixture, Source
from gemwright.data.packing import Batch, pack

BOS, LENGTH, ROWS = 2, 8, 4


def stream(token: int, rows: int) -> np.ndarray:
    """Documents of one token, but for the last of each row, which is its number."""
    return pack(([BOS, *[token] * (LENGTH - 2), 100 + row] for row in range(rows + 1)), BOS, 400)


def mixture(*weights: float, **options: object) -> Mixture:
    sources = [Source(stream(10 + number, 24), weight) for number, weight in enumerate(weights)]
    return Mixture(sources, BOS, seed=1, **options)  # type: ignore[arg-type]


def inputs(batch: Batch) -> np.ndarray:
    return np.asarray(batch.inputs)


def test_a_batch_depends_on_its_number_alone() -> None:
    ahead, found = mixture(1, 3), [inputs(mixture(1, 3).batch(step, ROWS, LENGTH)) for step in (7, 3, 8)]
    in_order = [inputs(ahead.batch(step, ROWS, LENGTH)) for step in range(9)]
    for step, rows in zip((7, 3, 8), found, strict=True):
        np.testing.assert_array_equal(rows, in_order[step])
    np.testing.assert_array_equal(inputs(ahead.batch(3, ROWS, LENGTH)), in_order[3])


def test_rows_come_in_the_shares_of_their_weights() -> None:
    mixed = mixture(1, 3)
    found = np.concatenate([inputs(mixed.batch(step, ROWS, LENGTH)) for step in range(20)])
    assert abs((found[:, 1] == 11).mean() - 0.75) < 0.05


def test_an_epoch_reads_every_row_once_and_each_in_another_order() -> None:
    one = mixture(1)
    found = np.concatenate([inputs(one.batch(step, ROWS, LENGTH)) for step in range(12)])[:, -1]
    assert sorted(found[:24]) == sorted(found[24:]) == sorted(set(found))
    assert found[:24].tolist() != found[24:].tolist()


def test_weights_change_from_stage_to_stage() -> None:
    mixed = mixture(1, 0.0001, stages=[(4, (0.0001, 1))])
    found = [inputs(mixed.batch(step, ROWS, LENGTH))[:, 1].tolist() for step in (3, 4)]
    assert found == [[10] * ROWS, [11] * ROWS]


def test_a_stream_too_short_is_told() -> None:
    with pytest.raises(ValueError, match="17 tokens do not fill one row of 32"):
        Mixture([Source(np.full(17, 3, np.uint16))], BOS, 0).batch(0, 1, 32)
