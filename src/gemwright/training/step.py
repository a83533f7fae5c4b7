"""One step: loss, gradient, update."""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from gemwright.core.module import module
from gemwright.data.packing import Batch
from gemwright.models.gemma import Config, Gemma


@module
class State:
    """What a step changes: weights, optimizer state and the number of steps done."""

    weights: Gemma
    optimizer: Any
    step: jax.Array


def next_token_loss(weights: Gemma, batch: Batch, config: Config) -> jax.Array:
    """Mean cross entropy in nats over the targets that belong to their row's document."""
    losses = token_losses(weights, batch.inputs, batch.targets, config, batch.positions, batch.segments)
    counted = jnp.asarray(batch.weights, losses.dtype)
    return jnp.sum(losses * counted) / jnp.sum(counted)


def token_losses(
    weights: Gemma,
    inputs: jax.Array,
    targets: jax.Array,
    config: Config,
    positions: jax.Array | None = None,
    segments: jax.Array | None = None,
) -> jax.Array:
    """(B, T) cross entropy in nats of each target after the inputs up to its own."""
    hidden, _ = weights(inputs, config, positions=positions, segments=segments)
    return optax.softmax_cross_entropy_with_integer_labels(weights.logits(hidden, config), targets)


def train_step(
    state: State, batch: Batch, config: Config, optimizer: optax.GradientTransformation
) -> tuple[State, jax.Array]:
    """The state after one update, and the loss before it."""
    loss, gradient = jax.value_and_grad(next_token_loss)(state.weights, batch, config)
    before: Any = state.weights  # optax names the kinds of trees it takes; a module is one of its own
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, before)
        weights: Any = optax.apply_updates(before, updates)
    return State(weights, optimizer_state, state.step + 1), loss
