"""Muon: updates are orthogonal and as large as AdamW's, whatever the gradient's scale."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.module import Spec
from gemwright.training.muon import orthogonalise, scale_by_muon


def normal(*shape: int, seed: int = 0) -> jax.Array:
    return jnp.asarray(np.random.default_rng(seed).standard_normal(shape), jnp.float32)


def iterated(matrix: np.ndarray) -> np.ndarray:
    """The quintic iteration as it is written, in float64."""
    x = matrix.astype(np.float64) / np.linalg.norm(matrix)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


@pytest.mark.parametrize("shape", [(1, 7), (16, 16), (24, 64)])
def test_iterating_on_the_small_side_is_iterating_on_the_matrix(shape: tuple[int, int]) -> None:
    matrix = normal(*shape)
    np.testing.assert_allclose(np.asarray(orthogonalise(matrix)), iterated(np.asarray(matrix)), rtol=0, atol=2e-4)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4])
def test_singular_values_come_near_one(scale: float) -> None:
    found = np.linalg.svd(np.asarray(orthogonalise(scale * normal(24, 64))), compute_uv=False)
    assert 0.6 < found.min() <= found.max() < 1.3


@pytest.mark.parametrize(
    ("shape", "axes", "inputs"),
    [
        ((40, 16), ("mlp", "embed"), 1),
        ((16, 40), ("embed", "mlp"), 1),
        ((4, 8, 16), ("heads", "head_dim", "embed"), 1),
        ((16, 4, 8), ("embed", "heads", "head_dim"), 2),
    ],
)
def test_updates_are_as_large_as_those_of_adamw(shape: tuple[int, ...], axes: tuple[str, ...], inputs: int) -> None:
    muon = scale_by_muon([Spec(shape, axes, inputs=inputs)])
    gradient = [1e-3 * normal(*shape)]
    updates, _ = muon.update(gradient, muon.init(gradient))
    update = np.asarray(jax.tree.leaves(updates)[0])
    assert update.shape == shape
    assert np.sqrt(np.mean(update**2)) == pytest.approx(0.2, rel=0.2)


def test_momentum_looks_ahead_and_is_kept() -> None:
    muon, first, second = scale_by_muon([Spec((8, 8), ("mlp", "embed"))]), normal(8, 8), normal(8, 8, seed=1)
    _, state = muon.update([first], muon.init([first]))
    updates, state = muon.update([second], state)
    momentum = 0.95 * first + second
    expected = iterated(np.asarray(0.95 * momentum + second)) * 0.2 * np.sqrt(8)
    np.testing.assert_allclose(np.asarray(jax.tree.leaves(updates)[0]), expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(np.asarray(jax.tree.leaves(state)[0]), np.asarray(momentum), rtol=1e-6)


def test_a_gradient_of_zeros_moves_nothing() -> None:
    muon, nothing = scale_by_muon([Spec((4, 6), ("mlp", "embed"))]), [jnp.zeros((4, 6))]
    updates, _ = muon.update(nothing, muon.init(nothing))
    assert not np.asarray(jax.tree.leaves(updates)[0]).any()
