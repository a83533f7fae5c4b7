"""The oracle's answers as `make_fixtures` stored them."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from tests.parity.cases import SEEDS, Family

FOLDER = Path(__file__).parent / "fixtures"


@dataclass(frozen=True)
class Stored:
    """One random model's answers.

    Attributes:
      tokens: (ROWS, TOKENS) forced tokens.
      logits: (ROWS, positions, V) after those of them that `KEPT` selects.
      prompt: (ROWS, PREFILL).
      greedy: (ROWS, GREEDY) its greedy continuation, which no near tie decided.
    """

    tokens: np.ndarray
    logits: np.ndarray
    prompt: np.ndarray
    greedy: np.ndarray


@cache
def stored(family: Family, seed: int) -> Stored:
    with np.load(FOLDER / f"{family.name}.npz") as file:
        at = SEEDS.index(seed)
        return Stored(file["tokens"][at], file["logits"][at], file["prompt"][at], file["greedy"][at])
