"""Our models against the oracle's stored answers; no torch. `make parity` makes the same comparisons live.

Weights and tokens follow from seeds, and greedy paths with near ties were not stored: nothing is left to chance.
"""

import numpy as np
import pytest

from tests.parity import ours
from tests.parity.cases import FAMILIES, KEPT, MODERATE, PREFILL, SEEDS, SHORT, TOKENS, Family, weights_of
from tests.parity.stored import stored
from tests.tolerances import LOGITS, SAME

pytestmark = [
    pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name),
    pytest.mark.parametrize("seed", SEEDS),
]


def test_logits_of_all_tokens_at_once_equal_the_oracles(family: Family, seed: int) -> None:
    expected = stored(family, seed)
    logits = ours.whole(weights_of(family, seed), family.config, expected.tokens)
    np.testing.assert_allclose(logits[:, KEPT], expected.logits, rtol=0, atol=LOGITS)


def test_logits_of_each_decode_step_equal_the_oracles(family: Family, seed: int) -> None:
    expected = stored(family, seed)
    logits = ours.steps(weights_of(family, seed), family.config, expected.tokens)
    np.testing.assert_allclose(logits[:, KEPT], expected.logits, rtol=0, atol=LOGITS)


def test_a_padded_batch_has_the_logits_of_each_row_alone(family: Family, seed: int) -> None:
    expected = stored(family, seed)
    rows = ours.padded(weights_of(family, seed), family.config, expected.tokens)
    assert [len(row) for row in rows] == [TOKENS, TOKENS - PREFILL + SHORT]
    for row, reference in zip(rows, expected.logits, strict=True):
        np.testing.assert_allclose(row[KEPT], reference[: len(row[KEPT])], rtol=0, atol=LOGITS)


def test_greedy_tokens_equal_the_oracles_with_and_without_cache(family: Family, seed: int) -> None:
    expected = stored(family, seed)
    weights = weights_of(family, seed)
    tokens, _ = ours.greedy(weights, family.config, expected.prompt)
    np.testing.assert_array_equal(tokens, expected.greedy)
    uncached, _ = ours.greedy_without_cache(weights, family.config, expected.prompt, expected.greedy)
    np.testing.assert_array_equal(uncached, expected.greedy)


def test_every_way_through_the_cache_equals_no_cache(family: Family, seed: int) -> None:
    tokens, weights = stored(family, seed).tokens, weights_of(family, seed, MODERATE)
    whole = ours.whole(weights, family.config, tokens)
    np.testing.assert_allclose(ours.steps(weights, family.config, tokens), whole, rtol=0, atol=SAME)
    np.testing.assert_allclose(ours.chunks(weights, family.config, tokens), whole, rtol=0, atol=SAME)
    for row, alone in zip(ours.padded(weights, family.config, tokens), whole, strict=True):
        np.testing.assert_allclose(row, alone[: len(row)], rtol=0, atol=SAME)
