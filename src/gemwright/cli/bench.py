"""`gemwright bench`: how fast a model is here, beside what the machine can do."""

import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from gemwright.cli import options, strict_json


def bench(
    model: options.ModelArgument = None,
    bits: Annotated[int | None, typer.Option(help="Pack the matrices to 4 or 8 bits; as stored if left out.")] = None,
    shape: Annotated[str | None, typer.Option(help="No MODEL but random weights of a preset's shape.")] = None,
    prompt: Annotated[int, typer.Option(help="Tokens of the prompt.")] = 512,
    steps: Annotated[int, typer.Option(help="Tokens to decode.")] = 32,
    sequences: Annotated[int, typer.Option(help="Sequences to decode together.")] = 8,
    as_json: options.AsJson = False,
) -> None:
    """Measure bandwidth and arithmetic of this machine, then a model's speeds, its start and its memory."""
    if model and shape:
        raise ValueError(f"expected a MODEL or --shape, found both, {model} and {shape}: leave out one")
    from rich.console import Console
    from rich.table import Table

    from gemwright.bench.report import Plan, measure, rows

    plan = Plan(prompt, steps, sequences)
    with Console(stderr=True).status("measuring") as status:

        def say(what: str) -> None:
            status.update(f"measuring: {what}")

        if shape:
            with _random_model(shape, bits or 4) as folder:
                report = measure(folder, None, plan, say)
        else:
            report = measure(model, bits, plan, say)
    if as_json:
        print(strict_json.dumps(report.to_json()))
        return
    table = Table(
        "", "here", "share of the limit", title=f"{shape or model or 'default model'}, {report.threads} threads"
    )
    for row in rows(report, plan):
        table.add_row(*row)
    Console().print(table)


@contextmanager
def _random_model(shape: str, bits: int) -> Generator[Path]:
    from gemwright.bench.random_model import write_random_model
    from gemwright.models.family import PRESETS

    if shape not in PRESETS:
        raise ValueError(f"--shape: expected one of {', '.join(PRESETS)}, found {shape}")
    if bits not in (4, 8):
        raise ValueError(f"bits: expected 4 or 8, found {bits}")
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / shape
        write_random_model(folder, PRESETS[shape], bits)
        yield folder
