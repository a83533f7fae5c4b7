"""Batches read ahead are those of their numbers, in any order, and failures are told."""

import numpy as np
import pytest

from gemwright.data.ahead import ReadAhead
from gemwright.data.packing import Batch, Rows

BOS = 2
ROWS = Rows(np.arange(BOS, 300).astype(np.uint16), BOS, seed=0)


def inputs(batch: Batch) -> list[list[int]]:
    return np.asarray(batch.inputs).tolist()


def test_a_batch_depends_on_its_number_alone_whatever_was_read_before() -> None:
    pytest.importorskip("grain")
    ahead = ReadAhead(ROWS)
    for step, rows, length in [(0, 2, 8), (1, 2, 8), (2, 2, 8), (7, 2, 8), (3, 1, 16), (4, 1, 16), (0, 2, 8)]:
        assert inputs(ahead.batch(step, rows, length)) == inputs(ROWS.batch(step, rows, length))


def test_a_stream_too_short_is_told() -> None:
    pytest.importorskip("grain")
    with pytest.raises(ValueError, match="17 tokens do not fill one row of 32"):
        ReadAhead(Rows(np.full(17, 3, np.uint16), BOS, 0)).batch(0, 1, 32)
