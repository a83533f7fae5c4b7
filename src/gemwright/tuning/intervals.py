"""How sure a measured mean or share is: 95% intervals."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Interval:
    """A mean with its 95% interval, of so many values."""

    mean: float
    low: float
    high: float
    count: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} ({self.low:.3f} to {self.high:.3f})"


def interval(values: Sequence[float]) -> Interval:
    """Of the values that are numbers, by their standard error."""
    known = np.array([value for value in values if not math.isnan(value)])
    if not known.size:
        return Interval(math.nan, math.nan, math.nan, 0)
    error = float(known.std(ddof=1) / math.sqrt(known.size)) if known.size > 1 else math.inf
    mean = float(known.mean())
    return Interval(mean, mean - 1.96 * error, mean + 1.96 * error, known.size)


def wilson(right: float, count: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's interval of a share: it holds near 0 and 1 too, and for few."""
    share, spread = right / count, z * z / count
    middle = (share + spread / 2) / (1 + spread)
    half = z / (1 + spread) * math.sqrt(share * (1 - share) / count + spread / (4 * count))
    return max(0.0, middle - half), min(1.0, middle + half)
