"""Spikes and losses that are no numbers: passed over, gone back from, told."""

import json
import math
from dataclasses import dataclass, replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from gemwright.core.module import initialise
from gemwright.data.packing import Batch, Rows
from gemwright.models.family import specs_of
from gemwright.training.guard import trouble
from gemwright.training.loop import train
from gemwright.training.report import read_losses
from gemwright.training.run import Guard
from tests.training import tiny_recipe

GUARD = Guard(spike=10.0, window=8, patience=2, rollbacks=2)
CALM = [1.0, 1.02, 0.97, 1.01, 0.99, 1.0, 1.03, 0.98]


def test_losses_as_they_scatter_are_no_trouble() -> None:
    assert trouble([*CALM, 1.3, 0.7], 0, GUARD) is None


def test_a_spike_is_trouble_once_enough_came_before() -> None:
    assert trouble([*CALM, 1.0, 1.6, 1.0], 0, GUARD) == (9, "loss 1.600 spiked above 1.500")
    assert trouble([*CALM[:7], 9.0], 0, GUARD) is None
    assert trouble([*CALM, 1.6], 0, replace(GUARD, spike=0.0)) is None


def test_one_that_is_no_number_is_passed_over_and_several_are_trouble() -> None:
    assert trouble([*CALM, math.nan, 1.0, math.nan], 0, GUARD) is None
    assert trouble([1.0, math.nan, math.nan], 0, GUARD) == (2, "loss or gradient was no number 2 times in a row")


@dataclass(frozen=True)
class Poisoned:
    """Rows, but for one batch of noise."""

    rows: Rows
    bad: int

    def batch(self, step: int, rows: int, length: int) -> Batch:
        batch = self.rows.batch(step, rows, length)
        noise = np.random.default_rng(0).integers(30, tiny_recipe.VOCAB, batch.targets.shape).astype(np.int32)
        return replace(batch, targets=noise[:, ::-1]) if step == self.bad else batch


def test_a_run_goes_back_from_a_spike_and_passes_over_its_batches(tmp_path: Path) -> None:
    run = replace(tiny_recipe.run(40), guard=GUARD)
    train(run, Poisoned(tiny_recipe.rows(), 30), tmp_path, save_every=4)
    told = [json.loads(line)["what"] for line in (tmp_path / "events.jsonl").read_text().splitlines()]
    assert len(told) == 1
    assert "step 30" in told[0]
    assert "back to step 28, batches up to 30 are passed over" in told[0]
    losses = read_losses(tmp_path)
    assert len(losses) == 40
    assert max(losses[20:]) < min(losses[:3])


def test_a_run_that_gives_no_numbers_ends_with_a_reason(tmp_path: Path) -> None:
    run = replace(tiny_recipe.run(12), guard=replace(GUARD, rollbacks=1))
    weights = initialise(specs_of(run.model), 0)
    weights = replace(weights, final_norm=weights.final_norm * jnp.nan)
    with pytest.raises(ValueError, match="no number 2 times in a row, after 1 times back"):
        train(run, tiny_recipe.rows(), tmp_path, weights=weights)
