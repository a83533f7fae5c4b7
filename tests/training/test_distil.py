"""A student learns what its teacher says, not only what came next."""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.module import initialise
from gemwright.data.packing import Soft
from gemwright.models.family import specs_of
from gemwright.training.distil import Taught, online
from gemwright.training.head_loss import summed_loss
from gemwright.training.loop import train
from gemwright.training.step import token_losses
from tests.tolerances import SAME
from tests.training import tiny_recipe

RUN = tiny_recipe.run(30)
TEACHER = initialise(specs_of(RUN.model), 7)
DATA = tiny_recipe.rows()


def test_the_loss_is_the_cross_entropy_with_the_teachers_shares() -> None:
    rng = np.random.default_rng(0)
    head, hidden = rng.normal(size=(9, 4)), rng.normal(size=(2, 5, 4))
    tokens = np.argsort(rng.random((2, 5, 9)))[..., :3]
    shares, counts = rng.random((2, 5, 3)) / 3, rng.integers(0, 2, (2, 5)).astype(float)
    logits = hidden @ head.T
    logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -(shares * np.take_along_axis(logs, tokens, -1)).sum(-1)
    found = summed_loss(
        lambda head, _, hidden: hidden @ head.T,
        jnp.asarray(head, jnp.float32),
        None,
        jnp.asarray(hidden, jnp.float32),
        jnp.zeros((2, 5), jnp.int32),
        jnp.asarray(counts, jnp.float32),
        soft=Soft(jnp.asarray(tokens), jnp.asarray(shares, jnp.float32)),
    )
    assert abs(float(found.objective) - (expected * counts).sum()) < SAME
    assert abs(float(found.cross_entropy) - (-logs[..., 0] * counts).sum()) < SAME


def test_shares_are_those_among_all_tokens() -> None:
    batch = DATA.batch(0, 4, 16)
    soft = online(TEACHER, RUN.model, k=tiny_recipe.VOCAB)(batch)
    np.testing.assert_allclose(np.asarray(soft.shares).sum(-1), 1, rtol=0, atol=SAME)
    losses = jax.jit(token_losses, static_argnames="config")(
        TEACHER, batch.inputs, batch.targets, RUN.model, batch.positions, batch.segments
    )
    at = np.asarray(soft.tokens) == np.asarray(batch.targets)[..., None]
    np.testing.assert_allclose(np.asarray(soft.shares)[at], np.exp(-np.asarray(losses)).ravel(), rtol=0, atol=SAME)


def test_a_student_comes_nearer_its_teacher_from_stored_shares_as_from_fresh_ones(tmp_path: Path) -> None:
    teach = online(TEACHER, RUN.model, k=tiny_recipe.VOCAB)
    student = initialise(specs_of(RUN.model), 0)
    learned = train(RUN, Taught(DATA, teach), tmp_path / "online", weights=student)
    again = train(RUN, Taught(DATA, teach, tmp_path / "kept"), tmp_path / "stored", weights=student)
    assert len(list((tmp_path / "kept").iterdir())) == RUN.steps
    batch = DATA.batch(99, 8, 16)

    def distance(weights: object) -> float:
        other = online(weights, RUN.model, k=1)(batch)  # type: ignore[arg-type]
        return float(np.mean(np.asarray(other.tokens) != np.asarray(teach(batch).tokens)[..., :1]))

    before, after = distance(student), distance(jax.tree.map(np.asarray, learned))
    assert after < 0.6 * before
    # Stored shares are rounded to float16: steps differ, and end near each other.
    assert abs(distance(jax.tree.map(np.asarray, again)) - after) < 0.1
