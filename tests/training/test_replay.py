"""A bit that flips in memory, in a batch or in a computation is found, located, and undone."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from gemwright.core.sharding import MeshShape
from gemwright.data.packing import Batch
from gemwright.training.loop import Task, begin, train
from gemwright.training.replay import Outcome, Replay, checksums
from gemwright.training.report import read_losses
from gemwright.training.run import Guard
from gemwright.training.step import State
from tests.training import tiny_recipe

RUN = replace(tiny_recipe.run(8), mesh=MeshShape(fsdp=2))
WHERE = "weights.layers.0.mlp.up"


@pytest.fixture(scope="module")
def task() -> Task:
    return begin(RUN)


def flipped(array: jax.Array, device: int) -> jax.Array:
    """With one bit changed on one device."""
    parts = []
    for shard in array.addressable_shards:
        values = np.array(shard.data)
        if shard.device.id == device:
            values.reshape(-1).view(np.uint8)[5] ^= 1
        parts.append(jax.device_put(values, shard.device))
    return jax.make_array_from_single_device_arrays(array.shape, array.sharding, parts)


def flipped_weight(state: State) -> State:
    weights: Any = state.weights
    (layer,) = weights.layers
    mlp = replace(layer.mlp, up=flipped(layer.mlp.up, 1))
    return replace(state, weights=replace(weights, layers=(replace(layer, mlp=mlp),)))


def batches_of(task: Task) -> Callable[[range], Batch]:
    from gemwright.core.sharding import BATCHES, place

    def batches(steps: range) -> Batch:
        found = tiny_recipe.rows().batch(steps.start, 4, 16)
        return jax.tree.map(lambda part: place(np.asarray(part)[None], task.mesh, BATCHES), found)

    return batches


def ended(replay: Replay, state: State, disturb: Callable[[int, State], State] = lambda _, state: state) -> Any:
    """The last state, and the outcomes of all steps."""
    outcomes: list[Outcome] = []
    for step in range(4):
        outcomes.append(replay(range(step, step + 1), disturb(step, state)))
        state = outcomes[-1].state
    return checksums(state), outcomes


@pytest.fixture(scope="module")
def undisturbed(task: Task) -> Any:
    sums, outcomes = ended(Replay(task.steps, batches_of(task), 4, 3), task.fresh())
    assert not any(outcome.faults for outcome in outcomes)
    return sums


def test_in_memory(task: Task, undisturbed: Any) -> None:
    replay = Replay(task.steps, batches_of(task), 4, 3)
    sums, outcomes = ended(replay, task.fresh(), lambda step, state: flipped_weight(state) if step == 3 else state)
    (fault,) = outcomes[3].faults
    assert (fault.where, fault.parts) == ("memory", [(WHERE, 1)])
    assert "bits changed in memory: weights.layers.0.mlp.up on device 1" in str(fault)
    assert sums == undisturbed


def test_in_a_batch(task: Task, undisturbed: Any) -> None:
    calls = 0

    def batches(steps: range) -> Batch:
        nonlocal calls
        calls += steps.start == 2
        found = batches_of(task)(steps)
        return replace(found, inputs=flipped(found.inputs, 0)) if steps.start == 2 and calls == 1 else found

    sums, outcomes = ended(Replay(task.steps, batches, 4, 3), task.fresh())
    (fault,) = outcomes[2].faults
    assert (fault.where, fault.parts) == ("batch", [("inputs", 0)])
    assert sums == undisturbed


@pytest.mark.parametrize("wrong", [2, 5], ids=["first time", "when compared"])
def test_in_a_computation(task: Task, undisturbed: Any, wrong: int) -> None:
    """Calls 1 to 3 are the stretch's own after one step outside it, 4 to 6 the comparison."""
    calls = -1

    def program(state: State, batches: Batch) -> Any:
        nonlocal calls
        calls += 1
        state, measures = task.steps(state, batches)
        return (flipped_weight(state) if calls == wrong else state), measures

    sums, outcomes = ended(Replay(program, batches_of(task), 4, 3), task.fresh())
    (fault,) = outcomes[3].faults
    assert fault.where == "computation"
    assert fault.steps == range(2, 3)
    assert fault.parts == [(WHERE, 1)]
    assert [steps.start for steps, _ in outcomes[3].measures] == [1, 2, 3]
    assert sums == undisturbed


def test_a_machine_that_never_agrees_with_itself_is_given_up(task: Task) -> None:
    calls = 0

    def program(state: State, batches: Batch) -> Any:
        nonlocal calls
        calls += 1
        state, measures = task.steps(state, batches)
        weights: Any = state.weights
        return replace(state, weights=replace(weights, final_norm=weights.final_norm + 1e-3 * calls)), measures

    with pytest.raises(RuntimeError, match="no two results are alike"):
        ended(Replay(program, batches_of(task), 4, 3), task.fresh())


def test_a_run_that_is_watched_learns_the_same(tmp_path: Path) -> None:
    plain = train(RUN, tiny_recipe.rows(), tmp_path / "plain")
    watched = train(replace(RUN, guard=Guard(replay_every=4, replay_steps=2)), tiny_recipe.rows(), tmp_path / "watched")
    assert jax.tree.all(jax.tree.map(np.array_equal, plain, watched))
    assert read_losses(tmp_path / "plain") == read_losses(tmp_path / "watched")
    assert not (tmp_path / "watched" / "events.jsonl").exists()
