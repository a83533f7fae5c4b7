"""Losses and weights of a few steps on several meshes of eight devices, for `test_step`.

XLA_FLAGS=--xla_force_host_platform_device_count=8 python -m tests.training.steps_on_meshes OUT.npz
"""

import sys
from typing import Any

import jax
import numpy as np

from gemwright.core.module import initialise, named_leaves
from gemwright.core.sharding import MeshShape, make_mesh
from gemwright.data.packing import Batch, rows_to_batch
from gemwright.models import griffin
from gemwright.models.family import specs_of
from gemwright.models.gemma import gemma2
from gemwright.training.optimizer import make_optimizer
from gemwright.training.run import Optimizer, Run, Stage
from gemwright.training.step import fresh_state, make_steps

BOS, VOCAB, LENGTH, ROWS, STEPS = 2, 64, 16, 8, 3
SIZES: dict[str, Any] = {"vocab_size": VOCAB, "embed_dim": 32, "num_layers": 2, "head_dim": 8, "mlp_dim": 64}
MODELS = {
    "gemma2": gemma2(window=8, num_heads=4, num_kv_heads=2, **SIZES),
    "griffin": griffin.Config(
        num_heads=4, num_kv_heads=1, recurrent_dim=32, pattern=("recurrent", "attention"), window=8, **SIZES
    ),
}
MESHES = {"copies": (8, 1, 1), "sharded": (1, 8, 1), "divided": (1, 1, 4), "all": (2, 2, 2)}
CASES = [("gemma2", name) for name in MESHES] + [("griffin", "all")]


def run_of(model: str) -> Run:
    return Run(MODELS[model], (Stage(STEPS, LENGTH),), ROWS * LENGTH, Optimizer(lr=1e-2, warmup=1))


def batches() -> Batch:
    """Of each step, stacked; documents begin anywhere, so that devices count differently many targets."""
    rng = np.random.default_rng(0)
    rows = rng.integers(3, VOCAB, (STEPS * ROWS, LENGTH + 1)).astype(np.int32)
    rows[rng.random(rows.shape) < 0.1] = BOS
    return jax.tree.map(lambda part: part.reshape(STEPS, ROWS, -1), rows_to_batch(rows, BOS))


def trained(run: Run, shape: tuple[int, int, int]) -> dict[str, np.ndarray]:
    """The weights after the steps, by name, and under `losses` the loss of each."""
    mesh, specs = make_mesh(MeshShape(*shape)), specs_of(run.model)
    optimizer = make_optimizer(run, specs, mesh)
    state = fresh_state(initialise(specs, 0), specs, optimizer, mesh)
    steps = make_steps(run.model, optimizer, mesh, run.compute)
    state, measures = steps(state, batches())
    found = {name: np.asarray(leaf) for name, leaf in named_leaves(state.weights).items()}
    return found | {"losses": np.asarray(measures.loss)}


if __name__ == "__main__":
    results = {
        f"{model}/{mesh}/{name}": value
        for model, mesh in CASES
        for name, value in trained(run_of(model), MESHES[mesh]).items()
    }
    np.savez(sys.argv[1], **results)
