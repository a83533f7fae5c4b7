"""The recipes of published sizes fit their pods; compiling for them takes minutes and libtpu, and is done by hand."""

import math

import pytest
from jax.sharding import AbstractMesh

from gemwright.core.module import named_leaves
from gemwright.core.sharding import AXES, FULLY_SHARDED, sharding_of
from gemwright.models.family import specs_of
from recipes.gemma_sizes import PODS, run


@pytest.mark.parametrize(("size", "chips"), [("2b", 512), ("7b", 4096)])
def test_rows_and_weights_are_shared_by_all_chips_of_a_slice(size: str, chips: int) -> None:
    recipe, pod = run(size), PODS[size]
    sizes = recipe.mesh.sizes(chips)
    assert math.prod(sizes) == chips == 256 * pod.slices
    assert recipe.rows(0) % (sizes[0] * sizes[1]) == 0
    assert recipe.length(0) == recipe.model.max_positions
    mesh = AbstractMesh(sizes, AXES)
    for name, spec in named_leaves(specs_of(recipe.model)).items():
        shard = math.prod(sharding_of(spec, mesh, FULLY_SHARDED).shard_shape(spec.shape))
        assert spec.size == shard * (256 if len(spec.shape) > 1 else sizes[1]), name
