"""Towers, PaliGemmas and pixels against the oracle's stored answers."""

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.images.pixels import to_pixels
from tests.parity.pictures import ours
from tests.parity.pictures.cases import (
    PAIRS,
    SEEDS,
    TOWERS,
    Pair,
    Tower,
    pair_weights,
    pictures,
    pixels_of,
    tokens_of,
    tower_weights,
)  # fmt: skip
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS

each_seed = pytest.mark.parametrize("seed", SEEDS)
each_pair = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)


@pytest.mark.parametrize("name", pictures())
def test_pixels_are_exactly_the_processors(name: str) -> None:
    picture, size = pictures()[name]
    np.testing.assert_array_equal(to_pixels(picture, size), stored("pixels")[name])


@each_seed
@pytest.mark.parametrize("tower", TOWERS, ids=lambda tower: tower.name)
def test_features_are_the_oracles(tower: Tower, seed: int) -> None:
    pixels = jnp.asarray(pixels_of(tower.config, seed))
    found = np.asarray(ours.features(tower_weights(tower, seed), pixels, tower.config))
    np.testing.assert_allclose(found, stored(tower.name)["features"][seed], rtol=0, atol=LOGITS)


@each_seed
@each_pair
@pytest.mark.parametrize("run", [ours.whole, ours.steps], ids=["padded batch", "each decode step"])
def test_logits_are_the_oracles(run: object, pair: Pair, seed: int) -> None:
    assert callable(run)
    pixels, tokens = pixels_of(pair.config.vision, seed), tokens_of(pair, seed)
    rows = run(pair_weights(pair, seed), pair.config, pixels, tokens)
    for row, part in zip(rows, ("first", "second"), strict=True):
        np.testing.assert_allclose(row, stored(pair.name)[part][seed], rtol=0, atol=LOGITS)


@each_seed
@each_pair
def test_greedy_answers_are_the_oracles(pair: Pair, seed: int) -> None:
    kept = stored(pair.name)
    pixels = pixels_of(pair.config.vision, seed)
    chosen, _ = ours.greedy(pair_weights(pair, seed), pair.config, pixels, kept["prompts"][seed])
    np.testing.assert_array_equal(chosen, kept["greedy"][seed])
