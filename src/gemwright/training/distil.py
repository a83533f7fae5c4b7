"""Distillation: a student learns a teacher's probabilities in place of single tokens, as Gemma 2's small models did."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gemwright.core.arrays import read_arrays
from gemwright.data.ahead import Data
from gemwright.data.packing import Batch, Soft
from gemwright.models.family import Config, Decoder

Teach = Callable[[Batch], Soft]


@dataclass(frozen=True)
class Taught:
    """The batches of `data` with what a teacher gives each place.

    Attributes:
      teach: from a batch to its likeliest tokens: `online`.
      folder: keeps what was taught by the batch's number, and takes it from there the next time; None keeps nothing.
    """

    data: Data
    teach: Teach
    folder: Path | None = None

    def batch(self, step: int, rows: int, length: int) -> Batch:
        """The rows of one step, taught."""
        batch = self.data.batch(step, rows, length)
        if self.folder is None:
            return replace(batch, soft=self.teach(batch))
        path = self.folder / f"{step:09}-{rows}x{length}.npz"
        if not path.exists():
            _store(self.teach(batch), path)
        found: dict[str, Any] = read_arrays(path)
        soft: Any = Soft(found["tokens"].astype(np.int32), found["shares"].astype(np.float32))
        return replace(batch, soft=soft)


def _store(soft: Soft, path: Path) -> None:
    """Tokens in as few bytes as they need, shares in float16; whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    tokens = np.asarray(soft.tokens)
    half = path.with_suffix(".partial.npz")
    kind = np.uint16 if tokens.max() < 1 << 16 else np.uint32
    np.savez(half, tokens=tokens.astype(kind), shares=np.asarray(soft.shares, np.float16))
    half.replace(path)


def online(weights: Decoder, config: Config, k: int, temperature: float = 1.0) -> Teach:
    """A teacher that reads each batch when it comes.

    Args:
      k: likeliest tokens that are learned; their probabilities are those among all tokens, so that their sum says how
        sure the teacher is of them.
      temperature: by which its logits are divided.
    """

    @jax.jit
    def likeliest(weights: Decoder, batch: Batch) -> Soft:
        hidden, _ = weights(batch.inputs, config, positions=batch.positions, segments=batch.segments)
        logits = weights.logits(hidden, config) / temperature
        shares, tokens = jax.lax.top_k(jax.nn.softmax(logits, axis=-1), k)
        return Soft(tokens, shares)

    def teach(batch: Batch) -> Soft:
        return jax.tree.map(np.asarray, likeliest(weights, batch))

    return teach
