"""A model in two trees of its own class: what is trained, and the rest, with None where the other has a leaf."""

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp

from gemwright.core.module import Spec, is_spec, named_leaves, path_name

T = TypeVar("T")


def split(tree: T, is_trained: Callable[[str], bool]) -> tuple[T, T]:
    """Part the leaves by name, of weights or of Specs.

    Raises:
      ValueError: if a leaf that is to be trained holds integers; names it.
    """

    def trained(path: Any, leaf: Any) -> bool:
        name = path_name(path)
        if not is_trained(name):
            return False
        if not is_spec(leaf) and not jnp.issubdtype(leaf.dtype, jnp.inexact):
            raise ValueError(f"weight {name}: expected floats to train, found {leaf.dtype}; train an adapter beside it")
        return True

    chosen = jax.tree_util.tree_map_with_path(trained, tree, is_leaf=is_spec)
    first = jax.tree.map(lambda keep, leaf: leaf if keep else None, chosen, tree)
    second = jax.tree.map(lambda keep, leaf: None if keep else leaf, chosen, tree)
    return first, second


def join(first: T, second: T) -> T:
    """The tree that was parted."""
    return jax.tree.map(
        lambda one, other: other if one is None else one,
        first,
        second,
        is_leaf=lambda leaf: leaf is None or is_spec(leaf),
    )


def specs_like(specs: Any, tree: T) -> T:
    """The declaration of each leaf of a tree: the model's own, and one without axes for what stands beside its weights.

    Args:
      specs: of the model that the tree is a part of, or was adapted from.
    """
    known: dict[str, Spec] = named_leaves(specs)

    def declared(path: Any, leaf: Any) -> Spec:
        return known.get(path_name(path)) or Spec(leaf.shape, ("change",) * leaf.ndim, product=False)

    return jax.tree_util.tree_map_with_path(declared, tree)
