"""Stopping long work between two steps of it."""

import signal
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import current_thread, main_thread
from typing import Any

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def asked_to_stop() -> Generator[Callable[[], bool]]:
    """Whether Ctrl-C or SIGTERM came since; a second one interrupts at once. Outside the main thread, never."""
    asked = False

    def note(number: int, _: Any) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True

    if current_thread() is not main_thread():  # Python lets no other one set handlers
        yield lambda: False
        return
    before = {number: signal.signal(number, note) for number in _SIGNALS}
    try:
        yield lambda: asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
