"""Weights spread over devices as the rules say, and compute the same."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh, Mesh

from gemwright.checkpoints.load import load_checkpoint
from gemwright.checkpoints.save import save_checkpoint
from gemwright.core.module import Spec, initialise, map_specs, named_leaves
from gemwright.core.sharding import FULLY_SHARDED, TENSOR_PARALLEL, sharding_of, shardings
from gemwright.models.family import specs_of
from gemwright.models.gemma import PRESETS, Config, Gemma, gemma2
from tests.checkpoints.conftest import GRIFFIN, assert_same, logits, sharp_weights
from tests.tolerances import SAME

POD = AbstractMesh((2, 4), ("fsdp", "tensor"))


def parts(spec: Spec, mesh: Any = POD, rules: Any = TENSOR_PARALLEL) -> tuple[Any, ...]:
    return tuple(sharding_of(spec, mesh, rules).spec)


def test_heads_width_and_vocabulary_go_over_the_model_axis() -> None:
    specs = Gemma.specs(PRESETS["gemma2-9b"])
    layer = specs.layers[0]
    assert parts(specs.embedding) == ("tensor", None)
    assert parts(layer.attention.query) == ("tensor", None, None)
    assert parts(layer.attention.output) == (None, "tensor", None)
    assert parts(layer.mlp.down) == (None, "tensor")
    assert parts(specs.final_norm) == (None,)


def test_a_size_that_does_not_divide_stays_whole() -> None:
    one_key_head = Gemma.specs(PRESETS["gemma-2b"]).layers[0].attention.key
    assert parts(one_key_head) == (None, None, None)
    assert parts(one_key_head, AbstractMesh((2, 1), ("data", "tensor"))) == ("tensor", None, None)


def test_a_mesh_without_the_axis_changes_nothing() -> None:
    assert parts(Spec((8, 8), ("mlp", "embed")), AbstractMesh((8,), ("data",))) == (None, None)


def test_full_sharding_spreads_the_width_over_the_data_axis_too() -> None:
    assert parts(Spec((8, 8), ("mlp", "embed")), rules=FULLY_SHARDED) == ("tensor", "fsdp")


def test_one_mesh_axis_is_used_once_a_weight() -> None:
    assert parts(Spec((8, 8), ("mlp", "vocab"))) == ("tensor", None)


@pytest.mark.parametrize("name", PRESETS)
def test_every_matrix_of_every_size_is_spread_over_eight_devices(name: str) -> None:
    specs = Gemma.specs(PRESETS[name])
    for weight, spec in named_leaves(specs).items():
        shard = sharding_of(spec, POD, FULLY_SHARDED).shard_shape(spec.shape)
        few_heads = "attention.key" in weight or "attention.value" in weight
        pieces = 2 if len(shard) == 1 or (few_heads and PRESETS[name].num_kv_heads == 1) else 8
        assert np.prod(spec.shape) == pieces * np.prod(shard), weight


# ------------------------------------------------------------------------------- on real devices

CONFIG: Config = gemma2(
    window=8, vocab_size=640, embed_dim=32, num_layers=2, num_heads=4, num_kv_heads=2, head_dim=16, mlp_dim=48
)
TOKENS = np.random.default_rng(0).integers(0, 640, (2, 24))

several = pytest.mark.skipif(jax.device_count() < 2, reason="needs XLA_FLAGS=--xla_force_host_platform_device_count=2")


def mesh(data: int, model: int) -> Mesh:
    return Mesh(np.array(jax.devices()[: data * model]).reshape(data, model), ("fsdp", "tensor"))


@several
@pytest.mark.parametrize(("shape", "rules"), [((1, 2), TENSOR_PARALLEL), ((2, 1), FULLY_SHARDED)])
def test_sharded_equals_unsharded(shape: tuple[int, int], rules: Any) -> None:
    weights = sharp_weights(CONFIG)
    spread = jax.device_put(weights, shardings(Gemma.specs(CONFIG), mesh(*shape), rules))
    assert np.abs(logits(spread, CONFIG, TOKENS) - logits(weights, CONFIG, TOKENS)).max() < SAME


@several
@pytest.mark.parametrize(("shape", "rules"), [((1, 2), TENSOR_PARALLEL), ((2, 1), FULLY_SHARDED)])
def test_a_recurrence_sharded_equals_one_unsharded(shape: tuple[int, int], rules: Any) -> None:
    specs = specs_of(GRIFFIN)
    weights = initialise(specs, 0)
    spread = jax.device_put(weights, shardings(specs, mesh(*shape), rules))
    if shape[1] > 1:
        assert named_leaves(spread)["layers.0.recurrence.decay"].addressable_shards[0].data.shape == (20,)
    assert np.abs(logits(spread, GRIFFIN, TOKENS) - logits(weights, GRIFFIN, TOKENS)).max() < SAME


@several
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_loading_over_a_mesh_reads_each_part_where_it_belongs(tmp_path: Path, dtype: str) -> None:
    weights = sharp_weights(CONFIG)
    save_checkpoint(tmp_path / "model", CONFIG, weights)
    loaded = load_checkpoint(tmp_path / "model", dtype=dtype, mesh=mesh(1, 2)).weights
    expected = map_specs(lambda _, spec: sharding_of(spec, mesh(1, 2)), Gemma.specs(CONFIG))
    for name, array in named_leaves(loaded).items():
        assert array.sharding.is_equivalent_to(named_leaves(expected)[name], array.ndim), name
    assert loaded.embedding.addressable_shards[0].data.shape == (320, 32)
    assert_same(loaded, jax.tree.map(lambda weight: weight.astype(jnp.dtype(dtype)), weights))


@several
def test_a_sharded_model_is_saved_whole(tmp_path: Path) -> None:
    weights = sharp_weights(CONFIG)
    spread = jax.device_put(weights, shardings(Gemma.specs(CONFIG), mesh(1, 2)))
    save_checkpoint(tmp_path / "model", CONFIG, spread)
    assert_same(load_checkpoint(tmp_path / "model").weights, weights)
