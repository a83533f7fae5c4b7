"""Ctrl-C: long work is saved by it, and an answer ends between two tokens."""

import signal
import sys
from collections.abc import Generator
from contextlib import contextmanager
from typing import Self

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


class Interrupt:
    """Ctrl-C while an answer is written: noted, and acted on between two tokens.

    An exception raised by the signal itself can land in a callback of a library, which drops it. A second Ctrl-C
    does not wait for the next token.
    """

    def __enter__(self) -> Self:
        self._asked = False
        self._before = signal.signal(signal.SIGINT, self._note)
        return self

    def __exit__(self, *_: object) -> None:
        signal.signal(signal.SIGINT, self._before)

    def _note(self, *_: object) -> None:
        if self._asked:
            raise KeyboardInterrupt
        self._asked = True

    def check(self) -> None:
        """Raises KeyboardInterrupt if Ctrl-C was pressed."""
        if self._asked:
            raise KeyboardInterrupt
