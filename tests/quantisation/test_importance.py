"""The importance of an input is its mean square while the model reads, whatever product it enters."""

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import named_leaves
from gemwright.core.recording import Recording
from gemwright.core.weights import lookup, project
from gemwright.models.gemma import Gemma
from gemwright.quantisation.importance import importance
from tests.tiny import CONFIG, sharp_weights
from tests.tolerances import SAME

ROWS = np.random.default_rng(0).integers(0, CONFIG.vocab_size, (3, 20)).astype(np.int32)


def test_a_watched_weight_computes_as_itself_and_notes_its_rows() -> None:
    weight = jnp.asarray(np.random.default_rng(0).standard_normal((5, 2, 3)), jnp.float32)
    x = jnp.asarray(np.random.default_rng(1).standard_normal((4, 2, 3)), jnp.float32)
    watched = Recording(weight)
    np.testing.assert_array_equal(np.asarray(project(x, watched, 2)), np.asarray(project(x, weight, 2)))
    np.testing.assert_array_equal(np.asarray(lookup(watched, jnp.asarray([1]))), np.asarray(weight[jnp.asarray([1])]))
    (squares,) = watched.squares
    np.testing.assert_allclose(np.asarray(squares), np.square(np.asarray(x)).reshape(4, 6).sum(axis=0), atol=SAME)


def test_every_matrix_is_watched_and_the_head_reads_the_last_hidden_states() -> None:
    weights = sharp_weights(CONFIG)
    told: list[tuple[int, int]] = []
    found = importance(weights, CONFIG, ROWS, lambda done, total: told.append((done, total)))
    matrices = {name: spec for name, spec in named_leaves(Gemma.specs(CONFIG)).items() if len(spec.shape) > 1}
    assert {name: values.shape for name, values in found.items()} == {n: (s.fan_in,) for n, s in matrices.items()}
    hidden = jax.jit(lambda tokens: weights(tokens, CONFIG)[0])(jnp.asarray(ROWS))
    expected = np.square(np.asarray(hidden, np.float64)).mean(axis=(0, 1))
    np.testing.assert_allclose(found["embedding"], expected, rtol=1e3 * SAME)
    np.testing.assert_array_equal(found["layers.1.mlp.gate"], found["layers.1.mlp.up"])
    assert (found["layers.1.mlp.gate"] != found["layers.0.mlp.gate"]).any()
    assert told == [(1, 3), (2, 3), (3, 3)]
