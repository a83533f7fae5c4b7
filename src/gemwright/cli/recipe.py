"""`gemwright recipe`: a whole chain of stages, each of which must gain."""

import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gemwright.cli import options, strict_json

if TYPE_CHECKING:  # loads slowly, and --help does not need it
    from gemwright.gemma_mini.course import Done


class RecipeName(StrEnum):
    """The chains that there are."""

    GEMMA_MINI = "gemma-mini"


def recipe(
    name: Annotated[RecipeName, typer.Argument(help="gemma-mini: pretrain, SFT, reward model, RLHF, evaluation.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the run; goes on if it exists. runs/NAME.")] = None,
    minutes: Annotated[float, typer.Option(help="That two CPU cores shall take; steps are in proportion.")] = 50,
    seed: options.Seed = 0,
    as_json: options.AsJson = False,
) -> None:
    """Run a whole chain from scratch. Exit code 1 if a stage gains nothing beyond chance. Stopped, it goes on."""
    from gemwright.gemma_mini.course import failed
    from gemwright.gemma_mini.recipe import REPORT, gemma_mini
    from gemwright.gemma_mini.report import verdict
    from gemwright.training.loop import Interrupted

    folder = out or Path("runs") / name.value
    try:
        done = gemma_mini(folder, minutes=minutes, seed=seed, say=lambda text: print(text, file=sys.stderr))
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"{str(error) or 'stopped'}; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    if as_json:
        print(strict_json.dumps({"passed": not failed(done), "stages": [_told(one) for one in done]}, indent=2))
    else:
        print(f"{verdict(done, len(done))}; {folder / REPORT} tells how")
    raise typer.Exit(1 if failed(done) else 0)


def _told(one: "Done") -> dict[str, object]:
    return {"name": one.name, "seconds": round(one.seconds, 1), **one.outcome.to_json()}
