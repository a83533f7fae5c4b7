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

from gemwright.core.lora import with_dropout
from gemwright.core.module import module
from gemwright.core.trainable import join
from gemwright.core.weights import PRODUCT
from gemwright.data.packing import Batch
from gemwright.models.family import Config, Decoder
from gemwright.training.head_loss import cross_entropies, summed_loss

# Else XLA times many ways of computing each product: minutes, where a small model trains for two.
_QUICKLY_COMPILED: dict[str, Any] = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}

# Else XLA's CPU backend undoes what `jax.checkpoint` spares: it finds both computations alike, and keeps the first.
_SPARING: dict[str, Any] = {"xla_disable_hlo_passes": "cse_barrier_expander"}

_WHOLE, _ROWS = PartitionSpec(), PartitionSpec("data")


@module
class State:
    """What a step changes: the weights that are trained, their optimizer state and the number of steps done."""

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


def make_step(
    config: Config,
    optimizer: optax.GradientTransformation,
    rows: int,
    devices: Sequence[Any] | None = None,
    frozen: Decoder | None = None,
) -> Callable[[State, Batch], tuple[State, jax.Array]]:
    """The function from a state and a batch of `rows` rows to the next state and the loss before it.

    Args:
      devices: share the rows evenly, as many of them as can; all of the default kind unless given.
        The state lives on the first, and is given up to the step.
      frozen: the weights that are not trained, as `split` parts them from those in the state; None trains all.
    """
    devices = devices or jax.local_devices()
    mesh = Mesh(devices[: math.gcd(rows, len(devices))], ("data",))
    whole, by_rows = NamedSharding(mesh, _WHOLE), NamedSharding(mesh, _ROWS)
    gradient = jax.jit(
        jax.shard_map(
            partial(_part_of_gradient, config=config),
            mesh=mesh,
            in_specs=(_WHOLE, _WHOLE, _WHOLE, _ROWS),
            out_specs=(_WHOLE, _ROWS),
            check_vma=False,
        ),
        compiler_options=_SPARING if frozen is not None and devices[0].platform == "cpu" else None,
    )
    update = jax.jit(partial(_update, optimizer), donate_argnums=0)
    frozen = jax.device_put(frozen, whole)

    def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
        weights, number = jax.device_put((state.weights, state.step), whole)
        loss, parts = gradient(weights, frozen, number, jax.device_put(batch, by_rows))
        return update(state, jax.device_put(parts, devices[0])), loss

    return step


def make_burst(
    config: Config, optimizer: optax.GradientTransformation, frozen: Decoder | None = None
) -> Callable[[State, Batch], tuple[State, jax.Array]]:
    """The function from a state and several steps' batches, stacked, to the last state and each step's loss before it.

    One program on one device, which does not wait for the host between steps. The state is given up to it. `frozen` is
    as of `make_step`.
    """

    def steps(frozen: Decoder | None, state: State, batches: Batch) -> tuple[State, jax.Array]:
        def step(state: State, batch: Batch) -> tuple[State, jax.Array]:
            count = jnp.sum(batch.weights.astype(jnp.float32))
            key = jax.random.fold_in(jax.random.key(0), state.step)
            loss, gradient = jax.value_and_grad(_part_of_loss)(state.weights, frozen, batch, count, key, config)
            return _changed(optimizer, state, gradient), loss

        return jax.lax.scan(step, state, batches)

    return partial(jax.jit(steps, donate_argnums=1, compiler_options=_QUICKLY_COMPILED), frozen)


def _part_of_gradient(
    weights: Decoder, frozen: Decoder | None, step: jax.Array, batch: Batch, config: Config
) -> tuple[jax.Array, Decoder]:
    """The mean loss over the counted targets of all devices, and this device's part of its gradient, as one row."""
    count = jax.lax.psum(jnp.sum(batch.weights.astype(jnp.float32)), "data")
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), step), jax.lax.axis_index("data"))
    loss, gradient = jax.value_and_grad(_part_of_loss)(weights, frozen, batch, count, key, config)
    return jax.lax.psum(loss, "data"), jax.tree.map(lambda part: part[None], gradient)


def _part_of_loss(
    weights: Decoder, frozen: Decoder | None, batch: Batch, count: jax.Array, key: jax.Array, config: Config
) -> jax.Array:
    """What a batch adds to a mean over `count` targets."""
    counts = batch.weights.astype(jnp.float32)
    if frozen is None:
        losses = token_losses(weights, batch.inputs, batch.targets, config, batch.positions, batch.segments)
        return jnp.sum(losses * counts) / count
    return tuned_loss(weights, frozen, batch, key, config) / count


def tuned_loss(weights: Decoder, frozen: Decoder, batch: Batch, key: jax.Array, config: Config) -> jax.Array:
    """The sum of the losses that count, where few weights are trained and memory is short.

    Products are kept for the gradient, and what lies between them computed again. With a head that is not trained, no
    logits are kept.
    """

    def read(weights: Decoder) -> jax.Array:
        model = with_dropout(join(weights, frozen), key)
        return model(batch.inputs, config, positions=batch.positions, segments=batch.segments)[0]

    hidden = jax.checkpoint(read, policy=jax.checkpoint_policies.save_only_these_names(PRODUCT))(weights)
    counts = batch.weights.astype(jnp.float32)
    if jax.tree.leaves(weights.embedding):
        return jnp.sum(cross_entropies(join(weights, frozen).logits(hidden, config), batch.targets) * counts)
    return summed_loss(partial(_logits, config), frozen, hidden, batch.targets, counts)


def _logits(config: Config, weights: Decoder, hidden: jax.Array) -> jax.Array:
    return weights.logits(hidden, config)


def _update(optimizer: optax.GradientTransformation, state: State, parts: Decoder) -> State:
    return _changed(optimizer, state, jax.tree.map(lambda part: jnp.sum(part, axis=0), parts))


def _changed(optimizer: optax.GradientTransformation, state: State, gradient: Any) -> State:
    before: Any = state.weights  # optax names the kinds of trees it takes; a module is one of its own
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, before)
        weights: Any = optax.apply_updates(before, updates)
    return State(weights, optimizer_state, state.step + 1)
