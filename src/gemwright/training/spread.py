"""A model as training computes with it: matrices narrow, gathered where they are used, layers computed again.

Made by replacing parts of a model within a step: its blocks by `Layer`, its embedding and last norm by gathered ones.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemwright.core.flash_attention import is_flash_attention
from gemwright.core.module import Spec, map_specs
from gemwright.core.sharding import FULLY_SHARDED, ROWS, sharding_of, shardings
from gemwright.core.weights import PRODUCT
from gemwright.training.run import Compute

Place = Callable[[Any], Any]


def spread(weights: Any, specs: Any, compute: Compute, mesh: Mesh) -> Any:
    """The model to compute a loss with; `weights` are fully sharded over `mesh`, or on its one device."""
    several, places = mesh.size > 1, None

    def narrow(weight: Any) -> Any:
        if not isinstance(weight, jax.Array):
            return weight  # quantised or adapted
        wide = weight.dtype == jnp.float32 and weight.ndim > 1
        return weight.astype(jnp.bfloat16) if wide and compute.dtype == "bfloat16" else weight

    def place(spec: Spec, weight: Any) -> Any:
        weight = narrow(weight)  # before it is sent
        if not several or not isinstance(weight, jax.Array):
            return weight
        # Whole but for the parts of `tensor`.
        return jax.lax.with_sharding_constraint(weight, sharding_of(spec, mesh))

    def rows(x: jax.Array) -> jax.Array:
        return jax.lax.with_sharding_constraint(x, NamedSharding(mesh, ROWS)) if several else x

    def gathered(specs: Any, part: Any) -> Any:
        return map_specs(lambda _, spec, weight: place(spec, weight), specs, part)

    def kept(specs: Any, block: Any) -> Any:
        # A stack is a copy, and so are its gradients.
        return map_specs(lambda _, __, weight: narrow(weight), specs, block) if compute.scan else block

    again = _again(compute)
    blocks = [
        Layer(kept(declared, block), lambda block, declared=declared: gathered(declared, block), rows, again)
        for declared, block in zip(specs.layers, weights.layers, strict=True)
    ]
    if compute.scan:
        places = shardings(specs.layers[0], mesh, FULLY_SHARDED) if several else None
    layers = (Scanned(tuple(blocks), places),) if compute.scan else tuple(blocks)
    rest = {name: gathered(getattr(specs, name), getattr(weights, name)) for name in ("embedding", "final_norm")}
    return replace(weights, layers=layers, **rest)


PRODUCTS_KEPT: Any = jax.checkpoint_policies.save_from_both_policies(
    jax.checkpoint_policies.save_only_these_names(PRODUCT), is_flash_attention
)
"""What is kept where all that lies between products is computed again."""


def _again(compute: Compute) -> Callable[[Any], Any] | None:
    # In a loop the compiler cannot find both computations alike, and needs nothing that keeps them apart.
    if compute.remat == "layers":
        return partial(jax.checkpoint, prevent_cse=not compute.scan)
    # Of a loop as a whole, all that lies between would be computed for all layers before any is gone back through.
    if compute.remat == "products" and compute.scan:
        return partial(jax.checkpoint, prevent_cse=False, policy=PRODUCTS_KEPT)
    return None


@dataclass(frozen=True)
class Layer:
    """Stands in a block's place, without a cache.

    Attributes:
      place: from its weights as they are kept to those it computes with.
      rows: holds a (B, T, D) value to the devices of its rows.
      again: what makes it compute itself again for the gradient, in whole or in part.
    """

    block: Any
    place: Place
    rows: Place
    again: Callable[[Any], Any] | None

    def __call__(self, x: jax.Array, *arguments: Any) -> tuple[jax.Array, None]:
        def read(block: Any, x: jax.Array) -> jax.Array:
            return self.rows(self.place(block)(self.rows(x), *arguments)[0])

        return (read if self.again is None else self.again(read))(self.block, x), None


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
