"""A model as training computes with it: matrices narrow, gathered where they are used, layers computed again.

Made by replacing parts of a model within a step: its blocks by `Layer`, its embedding and last norm by gathered ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemwright.core.module import Spec, map_specs
from gemwright.core.sharding import FULLY_SHARDED, ROWS, sharding_of, shardings
from gemwright.training.run import Compute

Place = Callable[[Any], Any]


def spread(weights: Any, specs: Any, compute: Compute, mesh: Mesh) -> Any:
    """The model to compute a loss with; `weights` are fully sharded over `mesh`, or on its one device."""
    several, places = mesh.size > 1, None

    def place(spec: Spec, weight: Any) -> Any:
        if not isinstance(weight, jax.Array):
            return weight  # quantised or adapted
        narrow = compute.dtype == "bfloat16" and weight.dtype == jnp.float32 and weight.ndim > 1
        weight = weight.astype(jnp.bfloat16) if narrow else weight
        # Whole but for the parts of `tensor`. Narrow before it is sent.
        return jax.lax.with_sharding_constraint(weight, sharding_of(spec, mesh)) if several else weight

    def rows(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, ROWS)) if several else x

    def gathered(specs: Any, part: Any) -> Any:
        return map_specs(lambda _, spec, weight: place(spec, weight), specs, part)

    again = compute.remat == "layers"
    blocks = [
        Layer(block, lambda block, declared=declared: gathered(declared, block), rows, again)
        for declared, block in zip(specs.layers, weights.layers, strict=True)
    ]
    if compute.scan:
        places = shardings(specs.layers[0], mesh, FULLY_SHARDED) if several else None
    layers = (Scanned(tuple(blocks), places),) if compute.scan else tuple(blocks)
    rest = {name: gathered(getattr(specs, name), getattr(weights, name)) for name in ("embedding", "final_norm")}
    return replace(weights, layers=layers, **rest)


@dataclass(frozen=True)
class Layer:
    """Stands in a block's place, without a cache.

    Attributes:
      place: from its weights as they are kept to those it computes with.
      rows: holds a (B, T, D) value to the devices of its rows.
      again: nothing inside is kept for the gradient.
    """

    block: Any
    place: Place
    rows: Place
    again: bool

    def __call__(self, x: jax.Array, *arguments: Any) -> tuple[jax.Array, None]:
        def read(block: Any, x: jax.Array) -> jax.Array:
            return self.rows(self.place(block)(self.rows(x), *arguments)[0])

        return (jax.checkpoint(read) if self.again else read)(self.block, x), None


@dataclass(frozen=True)
class Scanned:
    """Stands in the place of all blocks, which are alike: a loop over their stacked weights.

    Attributes:
      places: shardings of one block's weights; None on one device.
    """

    layers: tuple[Layer, ...]
    places: Any

    def __call__(self, x: jax.Array, *arguments: Any) -> tuple[jax.Array, None]:
        stacked = jax.tree.map(lambda *parts: jnp.stack(parts), *(layer.block for layer in self.layers))
        if self.places is not None:
            stacked = jax.tree.map(_held, stacked, self.places)

        def one(x: jax.Array, block: Any) -> tuple[jax.Array, None]:
            return replace(self.layers[0], block=block)(x, *arguments)

        return jax.lax.scan(one, x, stacked)


def _held(stack: jax.Array, place: NamedSharding) -> jax.Array:
    """Weights of all layers, each where it was; so are their gradients."""
    return jax.lax.with_sharding_constraint(stack, NamedSharding(place.mesh, PartitionSpec(None, *place.spec)))
