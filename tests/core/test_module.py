"""A weight is declared once; names, counts, shapes and first values follow."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.module import Spec, abstract, count, initialise, module, named_leaves


@module
class Pair:
    left: jax.Array
    right: jax.Array | None


@module
class Tree:
    root: jax.Array
    pairs: tuple[Pair, ...]


MATRIX = Spec((200, 5, 80), ("a", "b", "c"), inputs=2)
SPECS = Tree(Spec((4,), ("a",), init="ones"), (Pair(MATRIX, None), Pair(MATRIX, Spec((3,), ("a",), init="zeros"))))  # pyright: ignore


def test_a_spec_names_each_dimension() -> None:
    with pytest.raises(ValueError, match="names each dimension"):
        Spec((2, 3), ("embed",))


def test_a_specs_fan_in_is_what_a_product_sums_over() -> None:
    assert Spec((7, 3, 5), ("a", "b", "c")).fan_in == 5
    assert Spec((7, 3, 5), ("a", "b", "c"), inputs=2).fan_in == 15


def test_a_leafs_name_is_its_path_and_an_absent_weight_has_none() -> None:
    assert list(named_leaves(SPECS)) == ["root", "pairs.0.left", "pairs.1.left", "pairs.1.right"]
    weights = initialise(SPECS, seed=0)
    assert list(named_leaves(weights)) == list(named_leaves(SPECS))


def test_counting_and_abstract_shapes_agree_and_allocate_nothing() -> None:
    huge = dataclasses.replace(SPECS, root=Spec((10**9, 10**6), ("a", "b")))  # pyright: ignore
    assert count(huge) == 10**15 + 2 * 80_000 + 3
    root = abstract(huge, jnp.dtype(jnp.bfloat16)).root
    assert (root.shape, root.dtype) == ((10**9, 10**6), jnp.bfloat16)


def test_first_values_have_the_declared_spread_and_type() -> None:
    weights = initialise(SPECS, seed=3, dtype=jnp.bfloat16)
    assert {leaf.dtype for leaf in jax.tree.leaves(weights)} == {jnp.dtype(jnp.bfloat16)}
    assert weights.root.tolist() == [1.0] * 4
    right = weights.pairs[1].right
    assert right is not None
    assert right.tolist() == [0.0] * 3
    # 80,000 draws of a seeded generator: their spread is within 1% of 1/sqrt(fan_in), four of its standard errors.
    spread = float(jnp.std(weights.pairs[0].left.astype(jnp.float32)))
    assert spread == pytest.approx(1 / np.sqrt(5 * 80), rel=0.01)


def test_a_weights_first_values_depend_on_its_name_and_the_seed_alone() -> None:
    alone = initialise(Tree(SPECS.root, (SPECS.pairs[0],)), seed=1)
    among = initialise(SPECS, seed=1)
    assert bool((alone.pairs[0].left == among.pairs[0].left).all())
    assert not bool((among.pairs[0].left == among.pairs[1].left).any()), "another name draws other values"
    assert not bool((among.pairs[0].left == initialise(SPECS, seed=2).pairs[0].left).all())


def test_a_module_goes_through_jit_and_grad_and_keeps_its_class() -> None:
    weights = initialise(SPECS, seed=0)

    def loss(weights: Tree) -> jax.Array:
        return jnp.sum(jnp.square(weights.pairs[0].left)) + jnp.sum(weights.root)

    gradient = jax.jit(jax.grad(loss))(weights)
    assert isinstance(gradient.pairs[0], Pair)
    np.testing.assert_array_equal(np.asarray(gradient.pairs[0].left), 2 * np.asarray(weights.pairs[0].left))
    assert gradient.root.tolist() == [1.0] * 4


def test_a_module_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        SPECS.root = MATRIX  # pyright: ignore
