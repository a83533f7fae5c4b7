import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gemwright.data.packing import Rows, pack, rows_to_batch

BOS = 2
like_a_property = settings(derandomize=True, deadline=None, max_examples=100)
documents = st.lists(st.lists(st.integers(3, 60), max_size=9).map(lambda rest: [BOS, *rest]), min_size=1, max_size=8)


@like_a_property
@given(documents=documents)
def test_a_stream_divides_into_its_documents_at_bos(documents: list[list[int]]) -> None:
    stream = pack(documents, BOS, 64)
    starts = np.flatnonzero(stream == BOS)
    assert [part.tolist() for part in np.split(stream, starts[1:])] == documents


def test_a_stream_takes_the_smallest_integers_that_fit() -> None:
    assert pack([[BOS, 65_535]], BOS, 65_536).dtype == np.uint16
    assert pack([[BOS, 65_536]], BOS, 256_000).tolist() == [BOS, 65_536]
    assert pack([], BOS, 64).shape == (0,)


@pytest.mark.parametrize("wrong", [[], [5, 6], [BOS, 5, BOS]], ids=["empty", "no BOS", "two BOS"])
def test_a_document_without_exactly_one_bos_is_refused(wrong: list[int]) -> None:
    with pytest.raises(ValueError, match="document 1: expected exactly one BOS"):
        pack([[BOS, 5], wrong], BOS, 64)


@like_a_property
@given(documents=documents, length=st.integers(1, 12))
def test_batches_number_documents_and_their_positions(documents: list[list[int]], length: int) -> None:
    stream = pack([*documents, [BOS] + [5] * length], BOS, 64)[: length + 1]
    batch = jax.tree.map(np.asarray, rows_to_batch(stream[None], BOS))
    position, segment = 0, 0
    for index in range(length):
        segment, position = (segment + 1, 0) if stream[index] == BOS else (segment, position + (index > 0))
        assert batch.inputs[0, index] == stream[index]
        assert batch.targets[0, index] == stream[index + 1]
        assert batch.segments[0, index] == segment
        assert batch.positions[0, index] == position
        assert batch.weights[0, index] == (stream[index + 1] != BOS)


def numbered(count: int, seed: int = 0) -> Rows:
    """A stream of 8 tokens a row; a row is recognised by its first token."""
    return Rows(np.arange(100, 100 + 8 * count + 1).astype(np.uint16), BOS, seed)


def dealt(source: Rows, steps: range, rows: int, length: int = 8) -> list[int]:
    return [int(row[0]) for step in steps for row in source.batch(step, rows, length).inputs]


@like_a_property
@given(count=st.integers(1, 20), rows=st.integers(1, 5), seed=st.integers(0, 9))
def test_every_row_is_dealt_once_an_epoch(count: int, rows: int, seed: int) -> None:
    starts = dealt(numbered(count, seed), range(count), rows)
    assert sorted(starts[:count]) == list(range(100, 100 + 8 * count, 8))
    for epoch in range(1, rows):  # cut elsewhere, in a ring of 8 * count + 1 tokens
        found = sorted(starts[epoch * count : (epoch + 1) * count])
        gaps = np.diff([*found, found[0] + 8 * count + 1])
        assert sorted(gaps) == [8] * (count - 1) + [9]


def test_a_steps_batch_depends_on_the_step_and_the_seed_alone() -> None:
    whole = dealt(numbered(50), range(30), 3)
    assert dealt(numbered(50), range(20, 30), 3) == whole[60:]
    assert dealt(numbered(50, seed=1), range(30), 3) != whole
    assert whole[:50] != whole[50:], "each epoch has an order of its own"


def test_rows_of_every_length_are_cut_from_the_same_stream() -> None:
    for length in (1, 3, 16):
        starts = dealt(numbered(6), range(48 // length), 1, length)
        assert sorted(starts) == [100 + length * row for row in range(48 // length)]


def test_too_little_text_for_a_row_is_refused() -> None:
    with pytest.raises(ValueError, match="8 tokens do not fill one row of 8"):
        Rows(np.zeros(8, np.uint16), BOS, 0).batch(0, 1, 8)
