"""`gemwright pretrain`: a recipe, trained on this machine or on many."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemwright.cli.interruptible import interruptible

if TYPE_CHECKING:  # it needs jax, which `--help` does not wait for
    from gemwright.training.members import Members


def pretrain(
    recipe: Annotated[Path, typer.Argument(help="Python file with a function `pretraining`; see recipes/mini.py.")],
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="NAME=VALUE, a field of the run (optimizer.lr) or a parameter of the recipe."),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="Parameters, as 30M, of a recipe that sets the rest by it; see recipes/sized.py.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder of the run; goes on if it exists. runs/RECIPE by default.")
    ] = None,
    until: Annotated[
        int | None, typer.Option(min=1, help="Stop after this step; the schedule stays the run's.")
    ] = None,
    coordinator: Annotated[
        str | None, typer.Option(help="HOST:PORT of process 0, where several processes share the run.")
    ] = None,
    supervisor: Annotated[
        str | None, typer.Option(help="HOST:PORT of a supervisor, whose run this process joins; see --workers.")
    ] = None,
    process: Annotated[int, typer.Option(help="Number of this process.")] = 0,
    processes: Annotated[int | None, typer.Option(help="How many there are; --workers by default.")] = None,
    workers: Annotated[
        int, typer.Option(help="Supervise: start so many processes here, and anew those that die.", min=0)
    ] = 0,
    listen: Annotated[
        str, typer.Option(help="Of a supervisor: HOST:PORT where processes of other machines join; port 0 takes any.")
    ] = "127.0.0.1:0",
    replay: Annotated[
        int | None, typer.Option(help="Compute this step of the run again, twice, and compare it bit by bit.")
    ] = None,
    country: Annotated[
        str | None, typer.Option(help="ISO code (DEU) of the electricity, to estimate carbon; needs codecarbon.")
    ] = None,
    restarts: Annotated[int, typer.Option(help="Of a supervisor: after so many it gives up.", min=0)] = 10,
) -> None:
    """Train a model by a recipe. Stopped or killed at any moment, the same command goes on."""
    given = dict(_pair(text) for text in [*(settings or []), *([f"size={size}"] if size else [])])
    out = out or Path("runs") / recipe.stem
    if workers:
        raise typer.Exit(_supervise(workers, processes or workers, listen, restarts))
    if Path(sys.argv[0]).is_file():  # a command of its own, not called from another program
        from gemwright.training.memory import keep_memory

        keep_memory()

    from gemwright.training.pretrain import pretrain as run
    from gemwright.training.pretrain import read_recipe

    if replay is not None:
        _replay(recipe, given, out, replay)
        return
    members = _join(coordinator, supervisor, process, processes or 1)
    with interruptible():
        model = run(read_recipe(recipe, given), out, until, members, country)
    if process == 0:
        typer.echo(f"{model}: trained; {out / 'report.md'} tells how")


def _replay(recipe: Path, given: dict[str, str], out: Path, step: int) -> None:
    from gemwright.training.audit import audit
    from gemwright.training.pretrain import read_recipe

    found = read_recipe(recipe, given)
    result = audit(found.run, found.read(found.run, out).data, out, step)
    typer.echo(str(result))
    if result.unlike or result.logged is False:
        raise typer.Exit(1)


def _join(coordinator: str | None, supervisor: str | None, process: int, processes: int) -> "Members | None":
    if coordinator is not None:
        from gemwright.training.processes import join_processes

        join_processes(coordinator, process, processes)
    if supervisor is None:
        return None
    from gemwright.training.members import Members

    members = Members(supervisor, process, processes)
    members.meet()
    return members


def _supervise(workers: int, processes: int, listen: str, restarts: int) -> int:
    """Run this very command in processes of their own, and see them to their end."""
    from gemwright.training.stopping import asked_to_stop
    from gemwright.training.supervisor import Supervisor
    from gemwright.training.wire import parse_place

    if workers > processes:
        raise ValueError(f"--workers {workers}: expected at most --processes {processes}")
    given = sys.argv[sys.argv.index("pretrain") :]
    own = _without(given, ("--workers", "--processes", "--listen", "--restarts"))
    supervisor = Supervisor(processes, *parse_place(listen), restarts)

    def start(place: str, number: int) -> subprocess.Popen[bytes]:
        joining = [f"--supervisor={place}", f"--process={number}", f"--processes={processes}"]
        command = [sys.executable, "-m", "gemwright.cli.main", *own, *joining]
        return subprocess.Popen(command, start_new_session=True)  # the supervisor passes Ctrl-C on

    def say(text: str) -> None:
        typer.echo(text, err=True)

    say(f"supervisor at {supervisor.place}")
    with asked_to_stop() as stop:
        return supervisor.run(start, range(workers), stop, say)


def _without(arguments: list[str], options: tuple[str, ...]) -> list[str]:
    """A command line less some options and their values."""
    found: list[str] = []
    left = iter(arguments)
    for text in left:
        if text in options:
            next(left, None)
        elif text.partition("=")[0] not in options:
            found.append(text)
    return found


def _pair(text: str) -> tuple[str, str]:
    name, found, value = text.partition("=")
    if not found:
        raise ValueError(f"--set {text}: expected NAME=VALUE")
    return name.strip(), value
