"""What a run was and came to, for a reader: `report.md` with its plots."""

import itertools
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np

from gemwright.core.module import count
from gemwright.core.sharding import ROWS, make_mesh, place
from gemwright.data.ahead import Data
from gemwright.models.family import Decoder, specs_of
from gemwright.training.report import EVENTS, LOSSES, plot_losses, read_losses
from gemwright.training.run import Run
from gemwright.training.settings import settings
from gemwright.training.step import token_losses

TOKENS = 1 << 17
"""Of held-out text, at most."""


def write_report(folder: Path, run: Run, weights: Decoder, held_out: Data | None = None) -> None:
    """Write `report.md`, and the plots where matplotlib is.

    Args:
      held_out: text whose losses are told by position in its document. Its program runs on all processes.
    """
    curve = None if held_out is None else losses_by_position(run, weights, held_out)
    if jax.process_index() != 0:
        return
    plotted = plot_losses(folder)
    parts = [_beginning(folder, run), _steps(folder, run)]
    if plotted:
        parts.append("![loss](loss.png)")
    if curve:
        parts.append(_curve(folder, curve, plotted))
    parts += [_events(folder), _settings(run)]
    (folder / "report.md").write_text("\n\n".join(part for part in parts if part) + "\n")


Curve = list[tuple[int, int, float, int]]
"""First and last position, mean loss in nats, tokens."""


def losses_by_position(run: Run, weights: Decoder, data: Data) -> Curve:
    """Mean losses of held-out tokens by how many tokens of their document stand before them."""
    mesh, length = make_mesh(run.mesh), run.stages[-1].length
    rows = max(1, 4096 // length) * mesh.shape["data"] * mesh.shape["fsdp"]
    program = jax.jit(token_losses, static_argnames="config", out_shardings=None)
    sums, counts = np.zeros(length), np.zeros(length)
    for number in range(max(1, TOKENS // (rows * length))):
        batch = data.batch(number, rows, length)
        placed = jax.tree.map(lambda part: place(np.asarray(part), mesh, ROWS), batch)
        with jax.set_mesh(mesh):
            losses = program(weights, placed.inputs, placed.targets, run.model, placed.positions, placed.segments)
        counted = np.asarray(batch.weights, bool)
        at = np.asarray(batch.positions)[counted]
        np.add.at(sums, at, _whole(losses)[counted])
        np.add.at(counts, at, 1)
    edges = [0, *(2**power for power in range(length.bit_length())), length]
    spans = [(first, last) for first, last in itertools.pairwise(edges) if counts[first:last].sum()]
    return [
        (first, last - 1, float(sums[first:last].sum() / counts[first:last].sum()), int(counts[first:last].sum()))
        for first, last in spans
    ]


def _whole(values: jax.Array) -> np.ndarray[Any, Any]:
    if jax.process_count() == 1:
        return np.asarray(values)
    from jax.experimental import multihost_utils

    return np.asarray(multihost_utils.process_allgather(values, tiled=True))


def _beginning(folder: Path, run: Run) -> str:
    parameters = count(specs_of(run.model))
    return (
        f"# {folder.resolve().name}\n\nA {run.model.family} of {parameters:,} parameters, "
        f"{run.steps:,} steps of {run.tokens_per_step:,} tokens: {run.steps * run.tokens_per_step:,} in all."
    )


def _steps(folder: Path, run: Run) -> str:
    losses = np.array(read_losses(folder))
    records = [json.loads(line) for line in (folder / LOSSES).read_text().splitlines()]
    seconds = sum(record["seconds"] for record in records)
    tail = losses[-max(1, len(losses) // 50) :]
    rows = [
        ("steps done", f"{len(losses):,}"),
        ("loss at the beginning", f"{losses[0]:.4f} nats a token"),
        (f"mean of the last {len(tail)}", f"{np.nanmean(tail):.4f} nats a token"),
        ("time in steps", f"{seconds / 60:.1f} minutes"),
        ("tokens a second", f"{len(losses) * run.tokens_per_step / max(seconds, 1e-9):,.0f}"),
        ("devices", f"{jax.device_count()} x {jax.devices()[0].device_kind}"),
    ]
    shares = [record["mfu"] for record in records if "mfu" in record]
    if shares:
        rows.append(("share of the machine's peak (MFU), median", f"{np.median(shares):.1%}"))
    return "## Steps\n\n" + _table(("", ""), rows)


def _curve(folder: Path, curve: Curve, plotted: bool) -> str:
    rows = [(f"{first} to {last}", f"{loss:.4f}", f"{tokens:,}") for first, last, loss, tokens in curve]
    text = "## Held-out text by position\n\nMean loss of a token by how many of its document stand before it.\n\n"
    text += _table(("position", "nats", "tokens"), rows)
    if not plotted:
        return text
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    axes.plot([(first + last) / 2 + 1 for first, last, _, _ in curve], [loss for _, _, loss, _ in curve], marker="o")
    axes.set(xscale="log", xlabel="tokens before, and one", ylabel="loss (nats a token)")
    figure.savefig(folder / "positions.png", dpi=110)
    return text + "\n\n![loss by position](positions.png)"


def _events(folder: Path) -> str:
    path = folder / EVENTS
    found = path.read_text().splitlines() if path.exists() else []
    if not found:
        return ""
    lines = "\n".join(f"- {record['at']}: {record['what']}" for record in map(json.loads, found))
    return f"## What went wrong, and what was done\n\n{lines}"


def _settings(run: Run) -> str:
    return "## Settings\n\n" + _table(("field", "value"), [(name, str(value)) for name, value in settings(run).items()])


def _table(head: tuple[str, ...], rows: list[Any]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
