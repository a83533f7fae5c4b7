"""`gemwright bench`: how fast a model is here, beside what the machine can do."""

import json
from typing import Annotated

import typer

from gemwright.cli import options


def bench(
    model: options.ModelArgument = None,
    bits: Annotated[int | None, typer.Option(help="Pack the matrices to 4 or 8 bits; as stored if left out.")] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512,
    steps: Annotated[int, typer.Option(help="Tokens to decode.")] = 32,
    sequences: Annotated[int, typer.Option(help="Sequences to decode together.")] = 8,
    as_json: options.AsJson = False,
) -> None:
    """Measure bandwidth and arithmetic of this machine, then a model's speeds, its start and its memory."""
    from rich.console import Console
    from rich.table import Table

    from gemwright.bench.report import Plan, measure, rows

    plan = Plan(prompt, steps, sequences)
    with Console(stderr=True).status("") as status:
        report = measure(model, bits, plan, lambda what: status.update(f"measuring: {what}"))
    if as_json:
        print(json.dumps(report.to_json()))
        return
    table = Table("", "here", "share of the limit", title=f"{model or 'default model'}, {report.threads} threads")
    for row in rows(report, plan):
        table.add_row(*row)
    Console().print(table)
