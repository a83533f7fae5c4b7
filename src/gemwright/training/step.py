"""Some steps of a run as one program over a mesh: weights and optimizer fully sharded, rows divided.

Several steps are one program where starting a program costs as much as a step.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemwright.core.lora import with_dropout
from gemwright.core.module import abstract, module, named_leaves, path_name
from gemwright.core.sharding import BATCHES, FULLY_SHARDED, shardings
from gemwright.core.trainable import join, specs_like
from gemwright.data.packing import Batch
from gemwright.models.family import Config, Decoder, specs_of
from gemwright.training.head_loss import Losses, cross_entropies, summed_loss
from gemwright.training.memory import give_memory_back
from gemwright.training.run import Compute
from gemwright.training.spread import PRODUCTS_KEPT, spread

# Else XLA times many ways of computing each product: minutes, where a small model trains for two.
_QUICKLY_COMPILED: dict[str, Any] = {"xla_gpu_autotune_level": 0, "xla_gpu_enable_triton_gemm": False}
# Of large products cuBLAS's ways are the fastest; XLA would time its own beside, each compiled first.
_OF_LARGE_PRODUCTS: dict[str, Any] = {"xla_gpu_enable_triton_gemm": False}
# Else XLA's CPU backend undoes what `jax.checkpoint` spares: it finds both computations alike, and keeps the first.
_SPARING: dict[str, Any] = {"xla_disable_hlo_passes": "cse_barrier_expander"}

_SMALL = 100_000_000
"""Parameters of a model that is trained before XLA would have timed its products."""


@module
class State:
    """What a step changes: the weights that are trained, their optimizer state and the number of steps done."""

    weights: Decoder
    optimizer: Any
    step: jax.Array


@module
class Measures:
    """Of a step, before it changes the weights.

    Attributes:
      loss: mean cross entropy of the counted targets, in nats.
      norm: of the gradient.
      changed: whether the weights were changed; not where loss or gradient is no number.
    """

    loss: jax.Array
    norm: jax.Array
    changed: jax.Array


Steps = Callable[[State, Batch], tuple[State, Measures]]
"""From a state, which is given up, and the stacked batches of some steps to the last state and each one's measures."""


# ------------------------------------------------------------------------------------ where it lives


def fresh_state(weights: Decoder, specs: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh) -> State:
    """The state of no steps, spread over the mesh.

    Args:
      weights: those that are trained; copied.
      specs: their declarations, of the model's as `specs_like` extends them.
    """
    begun: Any = jax.tree.map(jnp.copy, jax.device_put(weights, shardings(specs, mesh, FULLY_SHARDED)))
    places = state_shardings(begun, optimizer, specs, mesh)
    optimizer_state = jax.jit(optimizer.init, out_shardings=places.optimizer)(begun)
    return State(begun, optimizer_state, jax.device_put(jnp.zeros((), jnp.int32), places.step))


def abstract_state(specs: Decoder, optimizer: optax.GradientTransformation, mesh: Mesh) -> State:
    """Shapes and places of a state of float32 weights; allocates nothing."""
    weights: Any = abstract(specs, jnp.dtype(jnp.float32))
    step = jax.ShapeDtypeStruct((), jnp.int32)
    state: Any = State(weights, jax.eval_shape(optimizer.init, weights), step)  # pyright: ignore[reportArgumentType]
    places = state_shardings(weights, optimizer, specs, mesh)
    return jax.tree.map(lambda leaf, at: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=at), state, places)


def state_shardings(weights: Any, optimizer: optax.GradientTransformation, specs: Decoder, mesh: Mesh) -> State:
    """Where each part of a state lies: what the optimizer keeps of a weight beside it, numbers on every device."""
    places: Any = shardings(specs, mesh, FULLY_SHARDED)
    named, shapes = named_leaves(places), {name: leaf.shape for name, leaf in named_leaves(weights).items()}
    everywhere = NamedSharding(mesh, PartitionSpec())

    def beside(path: Any, leaf: Any) -> NamedSharding:
        parts = path_name(path).split(".")
        names = (".".join(parts[start:]) for start in range(len(parts)))
        found = next((name for name in names if name in named and shapes[name] == leaf.shape), None)
        return everywhere if found is None else named[found]

    kept = jax.eval_shape(optimizer.init, weights)
    return State(places, jax.tree_util.tree_map_with_path(beside, kept), everywhere)  # pyright: ignore[reportArgumentType]


# ---------------------------------------------------------------------------------------- the steps


def make_steps(
    config: Config,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    compute: Compute | None = None,
    *,
    specs: Decoder | None = None,
    frozen: Decoder | None = None,
) -> Steps:
    """The program of some steps, compiled when it first meets batches of a shape.

    Args:
      specs: of the weights that are trained; the model's unless given.
      frozen: the weights that are not trained, as `split` parts them from those in the state; None trains all.
    """
    program = compile_steps(config, optimizer, mesh, compute, specs=specs, frozen=frozen)
    if frozen is not None:
        frozen = jax.device_put(frozen, shardings(specs_like(specs_of(config), frozen), mesh, FULLY_SHARDED))

    compiled: dict[tuple[tuple[int, ...], ...], Any] = {}

    def steps(state: State, batches: Batch) -> tuple[State, Measures]:
        shapes = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(batches))
        with jax.set_mesh(mesh):
            if shapes not in compiled:
                compiled[shapes] = program.lower(frozen, state, batches).compile()
                give_memory_back()
            return compiled[shapes](frozen, state, batches)

    return steps


def compile_steps(
    config: Config,
    optimizer: optax.GradientTransformation,
    mesh: Mesh,
    compute: Compute | None = None,
    *,
    specs: Decoder | None = None,
    frozen: Decoder | None = None,
) -> Any:
    """`make_steps` before it is compiled, of (frozen, state, batches); to be called or lowered under the mesh."""
    model = specs_of(config)
    specs = specs or model
    weights = abstract(specs, jnp.dtype(jnp.float32))
    places = state_shardings(weights, optimizer, specs, mesh)
    everywhere = NamedSharding(mesh, PartitionSpec())
    rest = None if frozen is None else shardings(specs_like(model, frozen), mesh, FULLY_SHARDED)
    by_rows = NamedSharding(mesh, BATCHES)
    one = partial(_step, config, optimizer, compute or Compute(), mesh)
    parameters = sum(leaf.size for leaf in jax.tree.leaves(weights))
    return jax.jit(
        partial(_steps, one),
        in_shardings=(rest, places, by_rows),
        out_shardings=(places, everywhere),
        donate_argnums=1,
        compiler_options=_compiler_options(mesh.devices.flat[0].platform, parameters, compute or Compute()),
    )


def _compiler_options(platform: str, parameters: int, compute: Compute) -> dict[str, Any] | None:
    if platform == "cpu":
        return _SPARING if compute.remat != "none" else None
    if platform == "gpu":
        return _QUICKLY_COMPILED if parameters < _SMALL else _OF_LARGE_PRODUCTS
    return None


def _steps(
    one: Callable[[Decoder | None, State, Batch], tuple[State, Measures]],
    frozen: Decoder | None,
    state: State,
    batches: Batch,
) -> tuple[State, Measures]:
    if len(batches.inputs) > 1:
        return jax.lax.scan(partial(one, frozen), state, batches)
    state, measures = one(frozen, state, jax.tree.map(lambda part: part[0], batches))
    return state, jax.tree.map(lambda value: value[None], measures)


def _step(
    config: Config,
    optimizer: optax.GradientTransformation,
    compute: Compute,
    mesh: Mesh,
    frozen: Decoder | None,
    state: State,
    batch: Batch,
) -> tuple[State, Measures]:
    count = jnp.sum(batch.weights.astype(jnp.float32))
    key = jax.random.fold_in(jax.random.key(0), state.step)

    def loss(weights: Decoder, part: Batch, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        found = batch_losses(weights, frozen, part, key, config, compute, mesh)
        return found.objective / count, found.cross_entropy / count

    gradient_of = jax.value_and_grad(loss, has_aux=True)
    (_, mean), gradient = _accumulated(gradient_of, state.weights, batch, key, compute.accumulate, mesh)
    # Else XLA fuses the update with the derivatives before it: minutes of compiling on a CPU. A GPU need not hold them.
    if mesh.devices.flat[0].platform != "gpu":
        gradient = jax.lax.optimization_barrier(gradient)
    norm = optax.tree.norm(gradient)
    after = changed(optimizer, state, gradient)
    sound = jnp.isfinite(mean) & jnp.isfinite(norm)
    kept: Any = jax.tree.map(lambda new, old: jnp.where(sound, new, old), after, replace(state, step=after.step))
    return kept, Measures(mean, norm, sound)


def _accumulated(
    gradient_of: Callable[..., Any], weights: Decoder, batch: Batch, key: jax.Array, parts: int, mesh: Mesh
) -> Any:
    """The sum over parts of a batch, each with rows of every device."""
    if parts == 1:
        return gradient_of(weights, batch, key)

    def cut(values: jax.Array) -> jax.Array:
        apart = values.reshape(-1, parts, *values.shape[1:]).swapaxes(0, 1)
        return jax.lax.with_sharding_constraint(apart, NamedSharding(mesh, BATCHES))

    def add(sums: Any, part: tuple[Batch, jax.Array]) -> tuple[Any, None]:
        return jax.tree.map(jnp.add, sums, gradient_of(weights, part[0], jax.random.fold_in(key, part[1]))), None

    pieces = jax.tree.map(cut, batch)
    shapes = jax.eval_shape(gradient_of, weights, jax.tree.map(lambda piece: piece[0], pieces), key)
    zeros = jax.tree.map(lambda shape: jnp.zeros(shape.shape, shape.dtype), shapes)
    return jax.lax.scan(add, zeros, (pieces, jnp.arange(parts)))[0]


def batch_losses(
    weights: Decoder,
    frozen: Decoder | None,
    batch: Batch,
    key: jax.Array,
    config: Config,
    compute: Compute,
    mesh: Mesh,
) -> Losses:
    """Summed over the counted targets of a batch."""
    specs = specs_of(config)

    def joined(weights: Decoder) -> Decoder:
        return weights if frozen is None else join(weights, frozen)

    def read(weights: Decoder) -> jax.Array:
        model: Any = spread(with_dropout(joined(weights), key), specs, compute, mesh)
        return model(batch.inputs, config, positions=batch.positions, segments=batch.segments)[0]

    if compute.remat == "products" and not compute.scan:  # of layers in a loop, each by itself
        read = jax.checkpoint(read, policy=PRODUCTS_KEPT)
    hidden, counts = read(weights), batch.weights.astype(jnp.float32)
    if frozen is None:
        head, fixed = spread(weights, specs, compute, mesh).embedding, None
    else:
        head, fixed = weights.embedding, frozen.embedding

    def score(head: Any, fixed: Any, hidden: jax.Array) -> jax.Array:
        model: Any = specs  # of which the head reads nothing but the embedding
        return replace(model, embedding=join(head, fixed)).logits(hidden, config)

    return summed_loss(score, head, fixed, hidden, batch.targets, counts, z_loss=compute.z_loss, soft=batch.soft)


def changed(optimizer: optax.GradientTransformation, state: State, gradient: Any) -> State:
    """The state after a step of the optimizer."""
    before: Any = state.weights  # optax names the kinds of trees it takes; a module is one of its own
    with jax.numpy_dtype_promotion("standard"):  # optax mixes integers and floats
        updates, optimizer_state = optimizer.update(gradient, state.optimizer, before)
        weights: Any = optax.apply_updates(before, updates)
    return State(weights, optimizer_state, state.step + 1)


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
