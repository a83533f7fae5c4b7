"""What a weight is and how weights make a module.

A weight is declared once, as a `Spec`. A module is a frozen dataclass whose fields are weights or
modules; it is a JAX pytree, so `jax.jit`, `jax.grad` and `jax.tree` work on it as they are. From
the tree of Specs come the initialised weights, the abstract shapes, the shardings, the size table
and the check of a checkpoint.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeVar, dataclass_transform

import jax
import jax.numpy as jnp
import numpy as np

Init = Literal["normal", "zeros", "ones"] | Callable[[np.random.Generator, tuple[int, ...]], np.ndarray[Any, Any]]
T = TypeVar("T")


@dataclass(frozen=True)
class Spec:
    """The declaration of one weight.

    Attributes:
      shape: its sizes.
      axes: one logical name a dimension (`embed`, `heads`, `mlp`, ...), from which shardings follow.
      init: `normal` has the standard deviation 1/sqrt(fan_in), where fan_in is the product of the
        last `inputs` sizes; a function draws by itself.
      inputs: how many trailing dimensions a product contracts.
      product: whether `weights.project` contracts it; what is computed with otherwise is never quantised, and files
        keep its shape.
    """

    shape: tuple[int, ...]
    axes: tuple[str, ...]
    init: Init = "normal"
    inputs: int = 1
    product: bool = True

    def __post_init__(self) -> None:
        if len(self.shape) != len(self.axes):
            raise ValueError(f"a Spec names each dimension: shape {self.shape}, axes {self.axes}")

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def fan_in(self) -> int:
        return math.prod(self.shape[len(self.shape) - self.inputs :])

    @property
    def is_matrix(self) -> bool:
        """From inputs to outputs, in whatever shape."""
        return self.product and len(self.shape) > 1


def weight(
    shape: tuple[int, ...], axes: tuple[str, ...], init: Init = "normal", inputs: int = 1, product: bool = True
) -> Any:
    """Declare a weight where a module's field is: a `Spec`, typed so that it can stand in a weight's place."""
    return Spec(shape, axes, init, inputs, product)


@dataclass_transform(frozen_default=True)
def module(cls: type[T]) -> type[T]:
    """Make a class a frozen dataclass and a pytree whose fields are all children."""
    cls = dataclass(frozen=True)(cls)
    names = [field.name for field in dataclasses.fields(cls)]  # pyright: ignore[reportArgumentType]
    return jax.tree_util.register_dataclass(cls, data_fields=names, meta_fields=[])


def is_spec(leaf: Any) -> bool:
    return isinstance(leaf, Spec)


def map_specs(function: Callable[..., Any], specs: T, *weights: T) -> T:
    """Apply `function(name, spec, *weights)` to every Spec of a tree, keeping the tree.

    Args:
      weights: modules of that class; a weight of several parts (a quantised one) is given whole.
    """

    def apply(path: Any, spec: Spec, *found: Any) -> Any:
        return function(path_name(path), spec, *found)

    return jax.tree_util.tree_map_with_path(apply, specs, *weights, is_leaf=is_spec)


def named_weights(specs: T, weights: T) -> dict[str, Any]:
    """The weights of a module by name; one of several parts (a quantised one) is whole."""
    found: dict[str, Any] = {}
    map_specs(lambda name, _, weight: found.__setitem__(name, weight), specs, weights)
    return found


def named_leaves(tree: Any) -> dict[str, Any]:
    """The leaves of a module by name, in the order of the tree. Specs and weights are leaves."""
    return {path_name(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(tree, is_leaf=is_spec)}


def path_name(path: tuple[Any, ...]) -> str:
    """The attribute path of a leaf, `layers.3.attention.query`: this is the weight's name."""
    return jax.tree_util.keystr(path, simple=True, separator=".")


def count(specs: Any) -> int:
    """How many parameters a tree of Specs declares."""
    return sum(spec.size for spec in named_leaves(specs).values())


def abstract(specs: T, dtype: jnp.dtype) -> T:
    """The same tree with shapes and types in place of Specs; allocates nothing."""
    return map_specs(lambda _, spec: jax.ShapeDtypeStruct(spec.shape, dtype), specs)


def initialise(specs: T, seed: int, dtype: Any = jnp.float32) -> T:
    """Draw every weight by its Spec. A weight's values depend on its name and the seed alone."""

    return map_specs(lambda name, spec: drawn(seed, name, spec, dtype), specs)


def drawn(seed: int, name: str, spec: Spec, dtype: Any = jnp.float32) -> jax.Array:
    """One weight as its Spec begins it."""
    if spec.init == "zeros":
        return jnp.zeros(spec.shape, dtype)
    if spec.init == "ones":
        return jnp.ones(spec.shape, dtype)
    if callable(spec.init):
        return jnp.asarray(spec.init(generator(seed, name), spec.shape), dtype)
    values = generator(seed, name).standard_normal(spec.shape, dtype=np.float32)
    return jnp.asarray(values / np.sqrt(spec.fan_in, dtype=np.float32), dtype)


def generator(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each weight name, so that no order of drawing matters."""
    return np.random.default_rng([seed, *name.encode()])
