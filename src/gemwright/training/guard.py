"""When a loss says that the run should go back."""

import math
from collections.abc import Sequence
from statistics import median

from gemwright.training.run import Guard

_NOISE = 0.05
"""Nats: the least that losses are taken to scatter."""


def trouble(losses: Sequence[float], first: int, guard: Guard) -> tuple[int, str] | None:
    """The first step from `first` on whose loss is a spike, or the last of too many that are no numbers, and a text.

    Args:
      losses: of all steps so far.
    """
    for step in range(first, len(losses)):
        before = [loss for loss in losses[max(0, step - guard.window) : step] if math.isfinite(loss)]
        last = losses[max(0, step + 1 - guard.patience) : step + 1]
        if len(last) == guard.patience and not any(map(math.isfinite, last)):
            times = f" {guard.patience} times in a row" if guard.patience > 1 else ""
            return step, f"loss or gradient was no number{times}"
        if guard.spike and len(before) == guard.window and losses[step] > (limit := _limit(before, guard.spike)):
            return step, f"loss {losses[step]:.3f} spiked above {limit:.3f}"
    return None


def _limit(losses: Sequence[float], times: float) -> float:
    """So many standard deviations above the middle, both as outliers do not move them."""
    middle = median(losses)
    return middle + times * max(_NOISE, 1.4826 * median(abs(loss - middle) for loss in losses))
