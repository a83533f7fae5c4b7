"""One sharded step: the same on every mesh, and for every way of computing it."""

import subprocess
import sys
from dataclasses import replace
from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from gemwright.core.module import initialise
from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.core.trainable import join, specs_like, split
from gemwright.models.family import specs_of
from gemwright.models.gemma import gemma1
from gemwright.training.optimizer import make_optimizer
from gemwright.training.run import Compute
from gemwright.training.step import fresh_state, make_steps, state_shardings, token_losses
from gemwright.tuning.lora import Plan, adapt, is_change
from tests.processes import with_devices
from tests.tolerances import AFTER_STEPS, BFLOAT16, SAME
from tests.training.steps_on_meshes import CASES, SIZES, batches, run_of, trained

ONE = (1, 1, 1)
on_one_device = cache(lambda model: trained(run_of(model), ONE))


@pytest.fixture(scope="module")
def on_eight_devices(tmp_path_factory: pytest.TempPathFactory) -> Any:
    out = tmp_path_factory.mktemp("meshes") / "found.npz"
    command = [sys.executable, "-m", "tests.training.steps_on_meshes", str(out)]
    subprocess.run(command, check=True, env=with_devices(8), timeout=300)
    return np.load(out)


@pytest.mark.parametrize(("model", "mesh"), CASES)
def test_eight_devices_take_the_steps_of_one(model: str, mesh: str, on_eight_devices: Any) -> None:
    for name, expected in on_one_device(model).items():
        found = on_eight_devices[f"{model}/{mesh}/{name}"]
        np.testing.assert_allclose(found, expected, rtol=0, atol=AFTER_STEPS, err_msg=name)
        if name == "losses":
            assert abs(found[0] - expected[0]) < SAME


@pytest.mark.parametrize(
    "compute", [Compute(remat="layers", accumulate=4), Compute(remat="products")], ids=["layers in parts", "products"]
)
def test_what_is_computed_again_or_in_parts_changes_nothing(compute: Compute) -> None:
    found = trained(replace(run_of("gemma2"), compute=compute), (1, 2, 1))
    for name, expected in on_one_device("gemma2").items():
        np.testing.assert_allclose(found[name], expected, rtol=0, atol=AFTER_STEPS, err_msg=name)


@pytest.mark.parametrize("remat", ["layers", "products"])
def test_layers_in_a_loop_change_nothing(remat: Any) -> None:
    run = replace(run_of("gemma2"), model=gemma1(num_heads=4, num_kv_heads=2, **SIZES))
    expected = trained(run, ONE)
    found = trained(replace(run, compute=Compute(scan=True, remat=remat)), (1, 2, 1))
    for name, weight in expected.items():
        np.testing.assert_allclose(found[name], weight, rtol=0, atol=AFTER_STEPS, err_msg=name)


def test_narrow_products_leave_weights_wide() -> None:
    found = trained(replace(run_of("gemma2"), compute=Compute(dtype="bfloat16")), ONE)
    expected = on_one_device("gemma2")
    assert {str(value.dtype) for value in found.values()} == {"float32"}
    difference = np.abs(found["losses"] - expected["losses"]).max()
    assert 0 < difference < 4 * BFLOAT16 * expected["losses"].max()
    rounded = found["embedding"].astype(jnp.bfloat16).astype(np.float32)
    assert (found["embedding"] != rounded).mean() > 0.9


def test_a_batch_that_is_no_number_changes_no_weight() -> None:
    run, mesh = run_of("gemma2"), make_mesh(MeshShape(*ONE))
    specs = specs_of(run.model)
    optimizer = make_optimizer(run, specs, mesh)
    weights = initialise(specs, 0)
    weights = replace(weights, final_norm=weights.final_norm.at[0].set(jnp.nan))
    state, measures = make_steps(run.model, optimizer, mesh)(fresh_state(weights, specs, optimizer, mesh), batches())
    assert not np.asarray(measures.changed).any()
    np.testing.assert_array_equal(state.weights.embedding, weights.embedding)
    assert int(state.step) == run.steps


def test_what_the_optimizer_keeps_of_a_weight_lies_beside_it() -> None:
    run, mesh = run_of("gemma2"), make_mesh(MeshShape(1, 2, 1))
    specs = specs_of(run.model)
    optimizer = make_optimizer(run, specs, mesh)
    weights: Any = jax.tree.map(lambda spec: jax.ShapeDtypeStruct(spec.shape, jnp.float32), specs)
    found = state_shardings(weights, optimizer, specs, mesh)
    kept = [place for place in jax.tree.leaves(found.optimizer) if "fsdp" in jax.tree.leaves(tuple(place.spec))]
    matrices = len(jax.tree.leaves(specs)) - 1 - 2 * 4 - 1  # all but the embedding and norms
    assert len(kept) == matrices + 2 * (len(jax.tree.leaves(specs)) - matrices)  # one momentum, or two moments


@pytest.mark.parametrize("targets", [("*.attention.*",), ("embedding",)], ids=["layers", "embedding"])
def test_an_adapter_learns_beside_weights_that_stay(targets: tuple[str, ...]) -> None:
    run, mesh = run_of("gemma2"), make_mesh(MeshShape(1, 2, 1))
    specs = specs_of(run.model)
    adapted = adapt(run.model, initialise(specs, 0), Plan(rank=2, targets=targets))
    changes, frozen = split(adapted, is_change)
    declared, sgd = specs_like(specs, changes), optax.sgd(1.0)
    batch = jax.tree.map(lambda part: part[0], batches())

    def loss(changes: Any) -> jax.Array:
        whole = join(changes, frozen)
        losses = token_losses(whole, batch.inputs, batch.targets, run.model, batch.positions, batch.segments)
        return jnp.sum(losses * batch.weights.astype(jnp.float32)) / jnp.sum(batch.weights.astype(jnp.float32))

    expected, slopes = jax.jit(jax.value_and_grad(loss))(changes)
    steps = make_steps(run.model, sgd, mesh, Compute(remat="products"), specs=declared, frozen=frozen)
    state = fresh_state(changes, declared, sgd, mesh)
    state, measures = steps(state, jax.tree.map(lambda part: part[None], batch))
    assert abs(float(measures.loss[0]) - float(expected)) < SAME
    for old, new, slope in zip(*map(jax.tree.leaves, (changes, state.weights, slopes)), strict=True):
        np.testing.assert_allclose(np.asarray(old) - np.asarray(new), np.asarray(slope), rtol=0, atol=SAME)
