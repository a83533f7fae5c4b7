"""Long work that is saved when it is interrupted."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

import typer


@contextmanager
def interruptible() -> Generator[None]:
    """Interrupted and saved, the command ends with code 130 and says how to go on."""
    from gemwright.training.loop import Interrupted

    try:
        yield
    except Interrupted as error:
        print(f"{error}; saved; the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
