"""Muon: momentum whose matrices are made orthogonal before they are added to the weights.

Jordan et al., "Muon" (2024), in the form of Liu et al. (arXiv 2502.16982), whose updates are as
large as AdamW's, so that one rate serves both.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from gemwright.core.module import Spec
from gemwright.core.sharding import AXES, FULLY_SHARDED, sharding_of

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)  # of the quintic whose iteration drives singular values to about 1
_ITERATIONS = 5
_UPDATE_SIZE = 0.2  # root mean square of AdamW's updates


class MuonState(NamedTuple):
    momentum: Any


def scale_by_muon(specs: list[Spec], momentum: float = 0.95, mesh: Mesh | None = None) -> optax.GradientTransformation:
    """Replace gradients by orthogonalised Nesterov momentum, of root mean square 0.2.

    Args:
      specs: the Specs of the weights it is given, in the order of the tree's leaves; each is taken
        as the matrix from its inputs to its outputs.
      momentum: the share of it that is kept at each step.
      mesh: over which they are fully sharded. Each device then makes some whole matrices orthogonal, and no product
        waits for another device.
    """

    def init(params: Any) -> MuonState:
        return MuonState(jax.tree.map(jnp.zeros_like, params))

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, MuonState]:
        def mix(old: jax.Array, new: jax.Array) -> jax.Array:
            return momentum * old + new

        kept = jax.tree.map(mix, state.momentum, updates)
        leaves, tree = jax.tree.flatten(jax.tree.map(mix, kept, updates))
        return jax.tree.unflatten(tree, _alike_together(leaves, specs, mesh)), MuonState(kept)

    return optax.GradientTransformation(init, update)


def _alike_together(leaves: list[jax.Array], specs: list[Spec], mesh: Mesh | None) -> list[jax.Array]:
    """All layers' matrices of one kind in one batch: an accelerator is idle in so small ones."""
    kinds: dict[Spec, list[int]] = {}
    for index, spec in enumerate(specs):
        kinds.setdefault(spec, []).append(index)
    found = list(leaves)
    for spec, indices in kinds.items():
        together = jax.vmap(partial(_update, spec=spec))(_dealt(jnp.stack([leaves[i] for i in indices]), mesh))
        for place, index in enumerate(indices):
            found[index] = _returned(together[place], spec, mesh)
    return found


def _dealt(stack: jax.Array, mesh: Mesh | None) -> jax.Array:
    """Whole matrices on each device."""
    if mesh is None or mesh.size == 1:
        return stack
    return jax.lax.with_sharding_constraint(stack, NamedSharding(mesh, PartitionSpec(AXES)))


def _returned(matrix: jax.Array, spec: Spec, mesh: Mesh | None) -> jax.Array:
    if mesh is None or mesh.size == 1:
        return matrix
    return jax.lax.with_sharding_constraint(matrix, sharding_of(spec, mesh, FULLY_SHARDED))


def _update(momentum: jax.Array, spec: Spec) -> jax.Array:
    """Each head's matrix by itself: heads do not mix, and small Gram matrices are cheap."""
    heads = [axis for axis, name in enumerate(spec.axes) if name in ("heads", "kv_heads")]
    if not heads:
        return _orthogonal(momentum.reshape(-1, spec.fan_in)).reshape(momentum.shape)
    apart = jnp.moveaxis(momentum, heads[0], 0)
    return jnp.moveaxis(jax.vmap(_orthogonal)(apart), 0, heads[0])


def _orthogonal(matrix: jax.Array) -> jax.Array:
    wide = matrix.shape[0] <= matrix.shape[1]
    result = orthogonalise(matrix) if wide else orthogonalise(matrix.T).T
    return result * _UPDATE_SIZE * math.sqrt(max(matrix.shape))


def orthogonalise(matrix: jax.Array) -> jax.Array:
    """A matrix of rows <= columns with all its singular values brought near 1 (0.7 to 1.2).

    Each iteration multiplies x from the left by a polynomial p of its Gram matrix g = x x'. All p
    commute with g, so the iteration runs on the small g alone: g becomes p g p, and x is multiplied
    once, by the product of all p.
    """
    x = matrix / (jnp.linalg.norm(matrix) + 1e-7)
    with jax.default_matmul_precision("highest"):  # tf32 makes small eigenvalues negative, and they grow
        gram = x @ x.T
        return _polynomial(gram) @ x


def _polynomial(gram: jax.Array) -> jax.Array:
    """The product of all p, by which an iteration multiplies."""
    a, b, c = _COEFFICIENTS
    identity = jnp.eye(len(gram), dtype=gram.dtype)
    product = identity
    for iteration in range(_ITERATIONS):
        factor = a * identity + b * gram + c * (gram @ gram)
        product = factor @ product if iteration else factor
        gram = factor @ factor @ gram
    return product
