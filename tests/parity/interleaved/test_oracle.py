"""Our side against the stored answers of the oracle: soft tokens, logits, greedy texts."""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from tests.parity.cases import SEEDS
from tests.parity.interleaved import ours
from tests.parity.interleaved.cases import FAMILIES, KEPT, Family, pixels_of, tokens_of, weights_of
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS

each_seed = pytest.mark.parametrize("seed", SEEDS)
each = pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)


@each_seed
@each
def test_soft_tokens_are_the_oracles(family: Family, seed: int) -> None:
    pixels = jnp.asarray(pixels_of(family.config.vision, seed))
    found = np.asarray(ours.features(weights_of(family, seed), pixels, family.config))
    np.testing.assert_allclose(found, stored(family.name)["soft"][seed], rtol=0, atol=LOGITS)


@each_seed
@each
@pytest.mark.parametrize("run", [ours.whole, ours.steps], ids=["padded batch", "each decode step"])
def test_logits_are_the_oracles(run: Callable[..., list[np.ndarray]], family: Family, seed: int) -> None:
    rows = run(weights_of(family, seed), family, pixels_of(family.config.vision, seed), tokens_of(family, seed))
    found = np.concatenate([row[KEPT] for row in rows])
    np.testing.assert_allclose(found, stored(family.name)["logits"][seed], rtol=0, atol=LOGITS)


@each_seed
@each
def test_greedy_answers_are_the_oracles(family: Family, seed: int) -> None:
    kept, pixels = stored(family.name), pixels_of(family.config.vision, seed)
    chosen, _ = ours.greedy(weights_of(family, seed), family, pixels, kept["prompts"][seed])
    np.testing.assert_array_equal(chosen, kept["greedy"][seed])
