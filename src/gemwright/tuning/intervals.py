"""How sure a measured mean or share is: 95% intervals."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


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


def share(right: int, count: int) -> Interval:
    """A share with Wilson's interval."""
    return Interval(right / count, *wilson(right, count), count)


def gained(before: Interval, after: Interval) -> Interval:
    """What one share is above another, from Wilson's intervals of both (Newcombe 1998, method 10).

    It takes the two for independent: of answers to the same questions it is wider than it need be.
    """
    gain = after.mean - before.mean
    down = math.hypot(after.mean - after.low, before.high - before.mean)
    up = math.hypot(after.high - after.mean, before.mean - before.low)
    return Interval(gain, gain - down, gain + up, min(before.count, after.count))


def resampled(values: Array, of_sums: Callable[[Array], Array], seed: int, times: int = 2000) -> Interval:
    """A number computed from sums over cases, with the bootstrap's percentile interval.

    Args:
      values: (N, k) of N cases, which are drawn with replacement.
      of_sums: from (..., k) sums over the cases to (...) numbers, as the quotient of two.
    """
    count = len(values)
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=times)
    low, high = np.quantile(of_sums(drawn @ values), (0.025, 0.975))
    return Interval(float(of_sums(values.sum(axis=0))), float(low), float(high), count)
