"""The loss of answers is the oracle's; prompts and padding are not learned; a step lowers it."""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemwright.core.module import initialise, named_leaves
from gemwright.models.paligemma import Config, PaliGemma
from gemwright.training.optimizer import is_matrix
from gemwright.training.pictures import PictureBatch, answer_loss, make_picture_steps
from gemwright.training.step import State
from tests.parity.pictures.cases import LENGTHS, PAIRS, PROMPTS, Pair, pair_weights, pixels_of, tokens_of
from tests.parity.pictures.stored import stored
from tests.tolerances import LOGITS, SAME

each = pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: pair.name)
loss_of = jax.jit(answer_loss, static_argnames="config")


def batch_of(pair: Pair, tokens: np.ndarray | None = None) -> PictureBatch:
    tokens = tokens_of(pair, 0) if tokens is None else tokens
    return PictureBatch(*map(jnp.asarray, (pixels_of(pair.config.vision, 0), tokens, PROMPTS, LENGTHS)))


@each
def test_the_loss_is_the_oracles(pair: Pair) -> None:
    # The oracle's are means of one row each.
    answers = np.array(LENGTHS) - np.array(PROMPTS)
    expected = float((stored(pair.name)["losses"][0] * answers).sum() / answers.sum())
    assert abs(float(loss_of(pair_weights(pair, 0), batch_of(pair), pair.config)) - expected) < LOGITS


def test_padding_is_not_learned() -> None:
    pair = PAIRS[0]
    wider = np.concatenate([tokens_of(pair, 0), np.full((2, 3), 7, np.int32)], axis=1)
    losses = [
        float(loss_of(pair_weights(pair, 0), batch, pair.config)) for batch in (batch_of(pair), batch_of(pair, wider))
    ]
    assert abs(losses[0] - losses[1]) < SAME


def test_steps_learn_answers_by_heart_and_move_every_weight() -> None:
    pair = PAIRS[1]
    vision, decoder = (dataclasses.replace(half, num_layers=1) for half in (pair.config.vision, pair.config.decoder))
    config, optimizer = Config(vision, decoder), optax.adam(1e-2)
    first = initialise(PaliGemma.specs(config), seed=0)
    begun: Any = jax.tree.map(jnp.copy, first)
    state, steps = State(begun, optimizer.init(begun), jnp.zeros((), jnp.int32)), make_picture_steps(config, optimizer)
    losses: list[float] = []
    twenty = jax.tree.map(lambda part: jnp.stack([part] * 20), batch_of(pair))
    for _ in range(3):
        state, found = steps(state, twenty)
        losses += found.loss.tolist()
    assert losses[0] > 3
    assert losses[-1] < 0.5
    after = named_leaves(state.weights)
    still = {name for name, value in named_leaves(first).items() if float(jnp.abs(value - after[name]).max()) < 1e-3}
    assert still <= {"vision.layers.0.attention.key_bias"}  # it moves all scores of a query alike


def test_biases_and_places_are_no_matrices_to_the_optimizer() -> None:
    specs = named_leaves(PaliGemma.specs(PAIRS[0].config))
    tables = {"decoder.embedding", "vision.position", "vision.patch"}
    matrices = {name for name, spec in specs.items() if is_matrix(spec)}
    assert matrices.isdisjoint(tables | {name for name in specs if name.endswith("bias") or "norm" in name})
    assert {"projector.matrix", "vision.layers.0.attention.query"} <= matrices
