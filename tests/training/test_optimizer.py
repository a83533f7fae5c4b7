"""The rate of every step, by schedule and stage; and AdamW as PyTorch defines it."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.module import initialise
from gemwright.models.family import specs_of
from gemwright.training.optimizer import learning_rate, make_optimizer
from gemwright.training.run import Optimizer, Run, Stage
from tests.training import tiny_recipe

RUN = Run(tiny_recipe.run(1).model, (Stage(60, 16), Stage(40, 32, rate=0.5)), 64, Optimizer(lr=2.0, warmup=10))


def rates(**changes: object) -> np.ndarray:
    run = replace(RUN, optimizer=replace(RUN.optimizer, **changes))  # type: ignore[arg-type]
    return np.array([float(learning_rate(run)(jnp.asarray(step))) for step in (0, 5, 10, 55, 59, 60, 80, 100)])


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"schedule": "linear", "final_share": 0.1}, [0, 1, 2, 1.1, 1.02, 0.5, 0.3, 0.1]),
        ({"schedule": "stable", "final_share": 0.0, "cooldown": 40}, [0, 1, 2, 2, 2, 1, 0.5, 0]),
        (
            {"schedule": "cosine", "final_share": 0.0},
            [0, 1, 2, 1, 1 + np.cos(np.pi * 49 / 90), *(0.5 * (1 + np.cos(np.pi * at / 90)) for at in (50, 70, 90))],
        ),
    ],
    ids=["linear", "stable", "cosine"],
)
def test_rates_rise_then_fall_and_stages_share_them(changes: dict[str, object], expected: list[float]) -> None:
    np.testing.assert_allclose(rates(**changes), expected, rtol=0, atol=1e-5)


def test_adamw_decays_matrices_alone_and_moves_each_weight_by_its_rate() -> None:
    run = replace(RUN, optimizer=Optimizer("adamw", lr=0.1, warmup=0, final_share=1.0, weight_decay=0.2, clip=1e9))
    weights = initialise(specs_of(run.model), 0)
    optimizer = make_optimizer(run, specs_of(run.model))
    ones = initialise(specs_of(run.model), 1)
    with jax.numpy_dtype_promotion("standard"):  # as in a step
        with_updates, _ = optimizer.update(ones, optimizer.init(weights), weights)  # type: ignore[arg-type]
    # Adam's first update is the gradient's sign; matrices also lose rate x decay of themselves.
    matrix, slope = (np.asarray(tree.layers[0].mlp.up) for tree in (weights, ones))
    expected = -0.1 * (np.sign(slope) + 0.2 * matrix)
    np.testing.assert_allclose(np.asarray(with_updates.layers[0].mlp.up), expected, rtol=0, atol=1e-4)
    np.testing.assert_allclose(np.asarray(with_updates.embedding), -0.1 * np.sign(ones.embedding), rtol=0, atol=1e-4)
