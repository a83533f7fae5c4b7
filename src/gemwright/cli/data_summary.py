"""What the verbs of `gemwright data` share: options, and the summary at the end."""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

Output = Annotated[Path, typer.Option("--output", help="JSON lines to write; .gz and .zst are compressed.")]
Json = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


def check_output(output: Path, inputs: Iterable[str | Path]) -> None:
    """Raises ValueError, before any work, where what is written would replace an input, a folder or a device."""
    from gemwright.data.pipeline.shards import check_file

    check_file(output)
    if output.resolve() in (Path(file).resolve() for file in inputs):
        raise ValueError(f"{output}: is one of the inputs; name another file")


def show(summary: dict[str, Any], as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(summary, ensure_ascii=False, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("documents")
    table.add_column("", justify="right")
    table.add_row("in", f"{summary['in']:,}")
    for part in ("dropped", "quarantined"):
        for reason, count in summary[part].items():
            table.add_row(f"  {part}: {reason}", f"{count:,}")
    table.add_row("kept", f"{summary['kept']:,}")
    for name, count in summary["counts"].items():
        table.add_row(f"  ({name})", f"{count:,}")
    Console().print(table)
