"""`gemwright pretrain`: a recipe, trained on this machine or on many."""

import sys
from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    recipe: Annotated[Path, typer.Argument(help="Python file with a function `pretraining`; see recipes/mini.py.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, a field of the run (optimizer.lr) or a parameter of the recipe."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; goes on if it exists. runs/RECIPE by default.")
    ] = None,
    until: Annotated[int | None, typer.Option(help="Stop after this step; the schedule stays the run's.")] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of process 0, where several processes share the run.")
    ] = None,
    process: Annotated[int, typer.Option(help="Number of this process.")] = 0,
    processes: Annotated[int, typer.Option(help="How many there are.")] = 1,
) -> None:
    """Train a model by a recipe. Stopped or killed at any moment, the same command goes on."""
    given = dict(_pair(text) for text in settings or [])
    out = out or Path("runs") / recipe.stem
    if Path(sys.argv[0]).is_file():  # a command of its own, not called from another program
        from gemwright.training.memory import keep_memory

        keep_memory()

    from gemwright.training.loop import Interrupted
    from gemwright.training.pretrain import pretrain as run
    from gemwright.training.pretrain import read_recipe

    if coordinator is not None:
        from gemwright.training.processes import join_processes

        join_processes(coordinator, process, processes)
    try:
        model = run(read_recipe(recipe, given), out, until)
    except Interrupted as stopped:
        typer.echo(f"{stopped}; saved. The same command goes on.", err=True)
        raise typer.Exit(130) from None
    if process == 0:
        typer.echo(f"{model}: trained; {out / 'report.md'} tells how")


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ValueError(f"--set {text}: expected NAME=VALUE")
    return name.strip(), value
