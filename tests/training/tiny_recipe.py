"""A run of seconds: documents that count upwards. Also the recipe of the tests that start processes."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np

from gemwright.data.packing import Batch, Rows, pack
from gemwright.models.gemma import gemma1
from gemwright.training.pretrain import Corpus, Pretraining
from gemwright.training.run import Optimizer, Run, Stage

BOS, VOCAB = 2, 40


@dataclass(frozen=True)
class Slow:
    """Rows that take their time, so that a test can interrupt."""

    rows: Rows
    seconds: float

    def batch(self, step: int, rows: int, length: int) -> Batch:
        time.sleep(self.seconds)
        return self.rows.batch(step, rows, length)


def rows() -> Rows:
    starts = np.random.default_rng(0).integers(3, 20, 60)
    return Rows(pack(([BOS, *range(start, start + 15)] for start in starts), BOS, VOCAB), BOS, 0)


def run(steps: int) -> Run:
    model = gemma1(vocab_size=VOCAB, embed_dim=16, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=8, mlp_dim=32)
    return Run(model, (Stage(steps, 16),), 64, Optimizer(lr=2e-2, warmup=2))


def read(_: Run, out: Path, seconds: float) -> Corpus:
    return Corpus(Slow(rows(), seconds), None, rows())


def pretraining(steps: int = 12, seconds: float = 0.0, save_every: int = 2, tell: str = "") -> Pretraining:
    if tell:  # which process this is
        Path(tell).mkdir(parents=True, exist_ok=True)
        (Path(tell) / f"pid{jax.process_index()}").write_text(str(os.getpid()))
    return Pretraining(run(steps), lambda run, out: read(run, out, seconds), save_every)
