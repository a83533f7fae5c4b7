"""How good a reward model is: how often it is right, how sure it is beside that, and what length has to do with it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from gemwright.data.pairs import Pair
from gemwright.tuning.intervals import wilson

Array = np.ndarray[Any, Any]
_BINS = 10


@dataclass(frozen=True)
class Bin:
    """Pairs about which the model is as sure: between `low` and `high`.

    Attributes:
      confidence: mean of what it says.
      right: share of them that it ranks right.
    """

    low: float
    high: float
    pairs: int
    confidence: float
    right: float


@dataclass(frozen=True)
class RewardReport:
    """Of pairs held out; ties are left out.

    Attributes:
      accuracy: share of pairs whose chosen side has the higher reward, equal ones half; with its 95% interval.
      loss: mean of Bradley and Terry's, in nats; log 2 for a model that knows nothing.
      calibration_error: mean distance of confidence and share right over the bins, by their pairs (Naeini et al. 2015).
      margin: mean reward of the chosen side less the other's.
      length_correlation: of that margin with how many tokens longer the chosen side is.
      longer_is_chosen: share of pairs whose longer side is the chosen one: what a rule by length alone would reach.
      accuracy_longer_chosen, accuracy_longer_rejected: among these pairs; and where the longer side is the worse.
    """

    pairs: int
    accuracy: float
    low: float
    high: float
    loss: float
    calibration_error: float
    margin: float
    length_correlation: float | None
    longer_is_chosen: float
    accuracy_longer_chosen: float | None
    accuracy_longer_rejected: float | None
    bins: tuple[Bin, ...]


def reward_report(pairs: Sequence[Pair], rewards: Array) -> RewardReport:
    """From (N, 2) rewards, of the chosen side first.

    Raises:
      ValueError: if all pairs are ties.
    """
    kept = np.array([not pair.tie for pair in pairs])
    if not kept.any():
        raise ValueError("expected pairs to measure on whose sides are not tied, found none")
    margins = (rewards[:, 0] - rewards[:, 1]).astype(np.float64)[kept]
    longer = np.array([_tokens(pair, 0) - _tokens(pair, 1) for pair in pairs], np.float64)[kept]
    right = np.where(margins == 0, 0.5, margins > 0)
    low, high = wilson(float(right.sum()), len(right))
    bins = _bins(margins, right)
    different = longer != 0
    return RewardReport(
        pairs=len(right),
        accuracy=float(right.mean()),
        low=low,
        high=high,
        loss=float(np.logaddexp(0, -margins).mean()),
        calibration_error=sum(one.pairs * abs(one.right - one.confidence) for one in bins) / len(right),
        margin=float(margins.mean()),
        length_correlation=_correlation(margins, longer),
        longer_is_chosen=float((longer[different] > 0).mean()) if different.any() else 0.5,
        accuracy_longer_chosen=_mean(right[longer > 0]),
        accuracy_longer_rejected=_mean(right[longer < 0]),
        bins=bins,
    )


def told(report: RewardReport) -> str:
    """In words, a few lines."""
    lines = [
        f"right about {report.accuracy:.1%} of {report.pairs} pairs held out ({report.low:.1%} to {report.high:.1%}), "
        f"loss {report.loss:.3f}",
        f"calibration: confidence and truth are {report.calibration_error:.3f} apart",
        f"length: the longer side is chosen in {report.longer_is_chosen:.0%} of the pairs",
    ]
    for share, what in (
        (report.accuracy_longer_chosen, "where it is"),
        (report.accuracy_longer_rejected, "where it is the worse"),
    ):
        if share is not None:
            lines[-1] += f"; right about {share:.1%} {what}"
    if report.length_correlation is not None:
        lines[-1] += f"; reward and length go together by {report.length_correlation:+.2f}"
    return "\n".join(lines)


def plot(report: RewardReport, pairs: Sequence[Pair], rewards: Array, path: Path) -> None:
    """Confidence beside truth, and margins beside lengths."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        Console(stderr=True).print("no plot: pip install 'gemwright\\[plot]' to get one")
        return
    figure = Figure(figsize=(9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    left.plot([0.5, 1], [0.5, 1], color="grey", linewidth=0.8)
    left.plot([one.confidence for one in report.bins], [one.right for one in report.bins], "o-")
    left.set(xlabel="confidence", ylabel="share right", title=f"calibration error {report.calibration_error:.3f}")
    longer = [_tokens(pair, 0) - _tokens(pair, 1) for pair in pairs]
    right.plot(longer, rewards[:, 0] - rewards[:, 1], ".", alpha=0.5)
    right.axhline(0, color="grey", linewidth=0.8)
    right.set(xlabel="tokens that the chosen side is longer", ylabel="reward margin", title="length")
    figure.savefig(path, dpi=110)


def _bins(margins: Array, right: Array) -> tuple[Bin, ...]:
    confidence = 1 / (1 + np.exp(-np.abs(margins)))
    edges = np.linspace(0.5, 1, _BINS + 1)
    places = np.clip(np.searchsorted(edges, confidence, side="right") - 1, 0, _BINS - 1)
    found: list[Bin] = []
    for number in range(_BINS):
        inside = places == number
        if inside.any():
            means = float(confidence[inside].mean()), float(right[inside].mean())
            found.append(Bin(float(edges[number]), float(edges[number + 1]), int(inside.sum()), *means))
    return tuple(found)


def _correlation(margins: Array, longer: Array) -> float | None:
    if len(margins) < 3 or margins.std() == 0 or longer.std() == 0:
        return None
    return float(np.corrcoef(margins, longer)[0, 1])


def _mean(values: Array) -> float | None:
    return float(values.mean()) if len(values) else None


def _tokens(pair: Pair, side: int) -> int:
    return len(pair.sides[side].ids) - pair.prompt
