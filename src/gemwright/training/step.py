"""One step: each device reads its rows of the batch, the first one changes the weights.

Or many steps in one program on one device, where starting a program costs as much as a step.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemwright.core.module import module
from gemwright.data.packing import Batch
from gemwright.models.family import Config, Decoder

# Else XLA times many ways of computing each product: minutes, where a small model trains for two.
_QUICKLY_COMPILED: dict[str, Any] = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}

_WHOLE, _ROWS = PartitionSpec(), PartitionSpec("data")


@module
class State:
    """What a step changes: weights, optimizer state and the number of steps done."""

    weights: Decoder
    optimizer: Any
    step: jax.Array


def token_losses(
    weights: Decoder,
    inputs: jax.Array,
    targets: jax.Array,
    config: Config,
    positions: jax.Array | None = None,
    segments: jax.Array | None = None,
) -> jax.Array:
    """(B, T) cross entropy in nats of each target after the inputs up to its own."""
    hidden, _ = weights(inputs, config, positions=positions, segments=segments)
    return cross_entropies(weights.logits(hidden, config), targets)


def cross_entropies(logits: jax.Array, targets: jax.Array) -> jax.Array:
    """(..., V) scores and (...) tokens -> (...) nats that each token costs."""
    # Summed over a mask: reading single logits would be differentiated into a scatter over all of them.
    chosen = jnp.arange(logits.shape[-1]) == targets[..., None]
    return jax.nn.logsumexp(logits, axis=-1) - jnp.sum(jnp.where(chosen, logits, 0.0), axis=-1)


def make_step(
    config: Config, optimizer: optax.GradientTransformation, rows: int, devices: Sequence[Any] | None = None
) -> Callable[[State, Batch], tuple[State, jax.Array]]:
    """The function from a state and a batch of `rows` rows to the next state and the loss before it.

    Args:
      devices: share the rows evenly, as many of them as can; all of the default kind unless given.
        The state lives on the first, and is given up to the step.
    """
    devices = devices or jax.local_devices()
    mesh = Mesh(devices[: math.gcd(rows, len(devices))], ("data",))
    gradient = jax.jit(
        jax.shard_map(
            partial(_part_of_gradient, config=config),
            mesh=mesh,
            in_specs=(_WHOLE, _ROWS),
            out_specs=(_WHOLE, _ROWS),
            check_vma=False,
        )
    )
    update = jax.jit(partial(_update, optimizer), donate_argnums=0)

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        weights = jax.device_put(state.weights, NamedSharding(mesh, _WHOLE))
        loss, parts = gradient(weights, jax.device_put(batch, NamedSharding(mesh, _ROWS)))
        return update(state, jax.device_put(parts, devices[0])), loss

    return step


def make_burst(
    config: Config, optimizer: optax.GradientTransformation
) -> Callable[[State, Batch], tuple[State, jax.Array]]:
    """The function from a state and several steps' batches, stacked, to the last state and each step's loss before it.

    One program on one device, which does not wait for the host between steps. The state is given up to it.
    """

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        count = jnp.sum(batch.weights.astype(jnp.float32))
        loss, gradient = jax.value_and_grad(_part_of_loss)(state.weights, batch, count, config)
        return _changed(optimizer, state, gradient), loss

    scan = partial(jax.lax.scan, step)
    return jax.jit(scan, donate_argnums=0, compiler_options=_QUICKLY_COMPILED)


def _part_of_gradient(weights: Decoder, batch: Batch, config: Config) -> tuple[jax.Array, Decoder]:
    """The mean loss over the counted targets of all devices, and this device's part of its gradient, as one row."""
    count = jax.lax.psum(jnp.sum(batch.weights.astype(jnp.float32)), "data")
    loss, gradient = jax.value_and_grad(_part_of_loss)(weights, batch, count, config)
    return jax.lax.psum(loss, "data"), jax.tree.map(lambda part: part[None], gradient)


def _part_of_loss(weights: Decoder, batch: Batch, count: jax.Array, config: Config) -> jax.Array:
    """What a batch adds to a mean over `count` targets."""
    losses = token_losses(weights, batch.inputs, batch.targets, config, batch.positions, batch.segments)
    return jnp.sum(losses * batch.weights.astype(jnp.float32)) / count


def _update(optimizer: optax.GradientTransformation, state: State, parts: Decoder) -> State:
    return _changed(optimizer, state, jax.tree.map(lambda part: jnp.sum(part, axis=0), parts))


def _changed(optimizer: optax.GradientTransformation, state: State, gradient: Any) -> State:
    before: Any = state.weights  # optax names the kinds of trees it takes; a module is one of its own
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, before)
        weights: Any = optax.apply_updates(before, updates)
    return State(weights, optimizer_state, state.step + 1)
