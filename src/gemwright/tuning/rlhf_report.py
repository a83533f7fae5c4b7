"""A plot of a run of reinforcement learning."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console


def plot(records: Sequence[Mapping[str, Any]], looks: Sequence[Mapping[str, Any]], path: Path) -> None:
    """Reward and divergence by step; what the rater preferred, where there was one."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        Console(stderr=True).print("no plot: pip install 'gemwright\\[plot]' to get one")
        return
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    steps = [record["step"] for record in records]
    axes.plot(steps, [np.nan if r["reward"] is None else r["reward"] for r in records], label="reward")
    if looks:
        axes.plot(
            [one["step"] for one in looks], [one["preferred"] for one in looks], "o-", label="preferred by the rater"
        )
    other = axes.twinx()
    other.plot(steps, [record["kl"] for record in records], color="tab:red", alpha=0.6, label="KL (right)")
    axes.set(xlabel="step", ylabel="reward")
    other.set(ylabel="KL from the first policy (nats an answer)")
    figure.legend(loc="outside upper center", ncols=3)
    figure.savefig(path, dpi=110)
