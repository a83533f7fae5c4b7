"""`gemwright data ablate` and `scaling`: what small models say about mixtures and sizes."""

from pathlib import Path
from typing import Annotated

import typer

from gemwright.cli import strict_json
from gemwright.cli.data_summary import Json


def ablate(
    recipe: Annotated[Path, typer.Argument(help="Python file with a function `ablation`; see recipes/ablation.py.")],
    out: Annotated[Path, typer.Option(help="Folder of the proxies; begun again with the same one, it goes on.")],
    as_json: Json = False,
) -> None:
    """Train small proxies over candidate mixtures and rank them by held-out bits per byte."""
    from dataclasses import asdict

    from gemwright.training.ablation import ablate as rank
    from gemwright.training.ablation import read_ablation

    ranking = rank(read_ablation(recipe), out, lambda text: typer.echo(text, err=True))
    if as_json:
        typer.echo(strict_json.dumps([asdict(one) for one in ranking], indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    sources = sorted(ranking[0].sources)
    for column in ("mixture", "bits per byte", *sources):
        table.add_column(column, justify="left" if column == "mixture" else "right", no_wrap=True)
    for one in ranking:
        scores = [one.total, *(one.sources[source] for source in sources)]
        table.add_row(one.name, *(f"{score.mean:.3f}±{score.margin:.3f}" for score in scores))
    Console().print(table)
    typer.echo(f"{out / 'ranking.png'} shows it; {out / 'runs.jsonl'} is for `gemwright data scaling`")


def scaling(
    runs: Annotated[Path, typer.Argument(help="JSON lines: parameters, tokens and loss of small runs.")],
    compute: Annotated[float, typer.Option(help="Floating-point operations to spend, such as 1e20.")],
    plot: Annotated[Path | None, typer.Option(help="Draw loss by size into this image.")] = None,
    as_json: Json = False,
) -> None:
    """Fit a law of loss to small runs; suggest the size and the tokens for a budget."""
    from gemwright.data import scaling as law_of

    found = law_of.read_runs(runs)
    law = law_of.fit(found)
    best = law.best(compute)
    if plot is not None:
        law_of.plot(plot, found, law, compute)
    if as_json:
        typer.echo(strict_json.dumps({"law": vars(law), "best": vars(best)}, indent=2))
        return
    powers = f"{law.a_scale:.4g}/N^{law.a:.3f} + {law.b_scale:.4g}/D^{law.b:.3f}"
    typer.echo(f"loss = {law.floor:.3f} + {powers}; its own runs within {law.error:.2%}")
    per = best.tokens / best.parameters
    typer.echo(f"{compute:.3g} operations: {best.parameters:.4g} parameters, {best.tokens:.4g} tokens ({per:.0f} each)")
    typer.echo(f"expected loss {best.loss:.3f}; the further the budget from the runs, the less sure")
