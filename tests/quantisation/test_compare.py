"""The comparison of two models, against the definitions in float64."""

from dataclasses import replace

import jax.numpy as jnp
import numpy as np

from gemwright.models.gemma import Gemma
from gemwright.quantisation.compare import compare
from tests.tiny import CONFIG, sharp_weights

ROWS = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (2, 70)).astype(np.int32)


def scores(model: Gemma) -> np.ndarray:
    """(rows, tokens - 1, V) float64 log probabilities of the next token."""
    logits = np.asarray(model.logits(model(jnp.asarray(ROWS), CONFIG)[0], CONFIG), np.float64)[:, :-1]
    logits -= logits.max(axis=-1, keepdims=True)
    return logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))


def test_the_means_are_those_of_the_definitions() -> None:
    first, second = sharp_weights(CONFIG), sharp_weights(CONFIG, seed=1)
    found = compare(first, second, CONFIG, ROWS)
    mine, theirs = scores(first), scores(second)
    losses = [-np.take_along_axis(s, ROWS[:, 1:, None], axis=-1).mean() for s in (mine, theirs)]
    assert found.tokens == 2 * 69
    np.testing.assert_allclose(found.divergence, (np.exp(mine) * (mine - theirs)).sum(axis=-1).mean(), rtol=1e-4)
    np.testing.assert_allclose([found.perplexity, found.other_perplexity], np.exp(losses), rtol=1e-4)
    assert found.agreement == (mine.argmax(axis=-1) == theirs.argmax(axis=-1)).mean()
    np.testing.assert_allclose(found.rise, np.exp(losses[1] - losses[0]) - 1, rtol=1e-4)


def test_a_model_does_not_differ_from_itself() -> None:
    weights = sharp_weights(CONFIG)
    found = compare(weights, replace(weights), CONFIG, ROWS)
    assert (found.divergence, found.rise, found.agreement) == (0, 0, 1)
