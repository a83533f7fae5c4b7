"""A law of loss over parameters and tokens, fitted to small runs (Hoffmann et al. 2022, approach 3).

    loss(N, D) = E + A / N**a + B / D**b

The fit makes the Huber distance of the logarithms small, from several starting points, as in the paper.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_HUBER = 1e-3  # log-loss beyond which an outlier counts in proportion, no longer squared
_FLOPS = 6  # a parameter and token, forward and backward


@dataclass(frozen=True)
class Run:
    """A proxy that was trained: parameters, tokens seen, loss at the end (nats a token)."""

    parameters: float
    tokens: float
    loss: float


@dataclass(frozen=True)
class Law:
    """The fitted numbers.

    Attributes:
      floor: E, the loss that no size and no data go below.
      error: the largest relative error of the fit on its own runs.
    """

    floor: float
    a_scale: float
    a: float
    b_scale: float
    b: float
    error: float = 0.0

    def loss(self, parameters: Any, tokens: Any) -> Any:
        return self.floor + self.a_scale / parameters**self.a + self.b_scale / tokens**self.b

    def best(self, compute: float) -> Run:
        """The size and tokens of the lowest loss for so many floating-point operations (6 N D).

        Raises:
          ValueError: if that is no positive number.
        """
        if not 0 < compute < math.inf:
            raise ValueError(f"compute: expected operations above 0, such as 1e20, found {compute}")
        ratio = (self.a * self.a_scale / (self.b * self.b_scale)) ** (1 / (self.a + self.b))
        parameters = ratio * (compute / _FLOPS) ** (self.b / (self.a + self.b))
        tokens = compute / _FLOPS / parameters
        return Run(parameters, tokens, float(self.loss(parameters, tokens)))


def fit(runs: Sequence[Run]) -> Law:
    """The law that runs follow.

    Raises:
      ValueError: if they are too few or too alike to tell size from data.
    """
    sizes, tokens = {run.parameters for run in runs}, {run.tokens for run in runs}
    if len(runs) < 6 or len(sizes) < 3 or len(tokens) < 3:
        raise ValueError(
            f"{len(runs)} runs of {len(sizes)} sizes and {len(tokens)} token counts: "
            "expected at least 6, with 3 of each, to tell five numbers"
        )
    if not all(run.loss > 0 and run.parameters > 1 and run.tokens > 1 for run in runs):
        raise ValueError("expected losses, parameters and tokens above zero")
    logs = np.log([[run.parameters, run.tokens, run.loss] for run in runs])
    starts = product([0.5], [3.0, 10.0], [0.4], [3.0, 10.0], [0.4])
    best = min((_descend(np.array(start), logs) for start in starts), key=lambda found: found[1])[0]
    floor, a_scale, a, b_scale, b = np.exp(best[0]), np.exp(best[1]), best[2], np.exp(best[3]), best[4]
    law = Law(float(floor), float(a_scale), float(a), float(b_scale), float(b))
    errors = [abs(law.loss(run.parameters, run.tokens) / run.loss - 1) for run in runs]
    return Law(law.floor, law.a_scale, law.a, law.b_scale, law.b, float(max(errors)))


def _descend(start: npt.NDArray[Any], logs: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], float]:
    from scipy.optimize import minimize

    bounds = [(-5, 5), (-5, 40), (0.01, 2), (-5, 40), (0.01, 2)]
    found: Any = minimize(
        _distance, start, args=(logs,), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": 500}
    )
    return found.x, float(found.fun)


def _distance(x: npt.NDArray[Any], logs: npt.NDArray[Any]) -> tuple[float, npt.NDArray[Any]]:
    """Sum of Huber distances between logarithms of loss, and its gradient."""
    size, tokens, loss = logs.T
    terms = np.stack([np.full_like(loss, x[0]), x[1] - x[2] * size, x[3] - x[4] * tokens])
    top = terms.max(axis=0)
    shares = np.exp(terms - top)
    total = shares.sum(axis=0)
    off = top + np.log(total) - loss
    shares /= total
    near = np.abs(off) <= _HUBER
    value = np.where(near, off**2 / 2, _HUBER * (np.abs(off) - _HUBER / 2)).sum() / _HUBER
    slope = np.clip(off, -_HUBER, _HUBER) / _HUBER
    parts = [shares[0], shares[1], -size * shares[1], shares[2], -tokens * shares[2]]
    return float(value), np.array([(slope * part).sum() for part in parts])


def read_runs(path: Path) -> list[Run]:
    """Runs from JSON lines with `parameters`, `tokens` and `loss`.

    Raises:
      OSError: if there is no such file.
      ValueError: if a line is something else; names it.
    """
    runs: list[Run] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            row = json.loads(line)
            runs.append(Run(float(row["parameters"]), float(row["tokens"]), float(row["loss"])))
        except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
            what = "a row with parameters, tokens and loss"
            raise ValueError(f"{path}, line {number}: expected {what}: {error!r}") from None
    return runs


def plot(path: Path, runs: Sequence[Run], law: Law, compute: float) -> None:
    """Loss over size at the compute of each run's neighbours and at the one asked for."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 4.5))
    budgets = np.geomspace(min(_FLOPS * run.parameters * run.tokens for run in runs), compute, 5)
    for budget in budgets:
        best = law.best(float(budget))
        sizes = best.parameters * np.geomspace(0.1, 10, 50)
        axes.plot(sizes, law.loss(sizes, budget / _FLOPS / sizes), label=f"{budget:.1e} operations")
        axes.plot(best.parameters, best.loss, "k.")
    axes.scatter([run.parameters for run in runs], [run.loss for run in runs], marker="x", color="gray", label="runs")
    axes.set(xscale="log", xlabel="parameters", ylabel="loss, nats a token", title="Loss by size at equal compute")
    axes.legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)
