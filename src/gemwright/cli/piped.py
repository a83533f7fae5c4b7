"""Text that comes on standard input."""

import sys
from typing import Any


def at_terminal() -> bool:
    """Whether somebody can type."""
    stream: Any = getattr(sys, "stdin", None)  # None where a shell has closed it (<&-)
    return stream is not None and bool(stream.isatty())


def piped_text(missing: str) -> str:
    """All that stands on standard input.

    Raises:
      ValueError: `missing`, if that is a terminal or closed; or if it is no text.
    """
    stream: Any = getattr(sys, "stdin", None)
    if stream is None or stream.isatty():
        raise ValueError(missing)
    try:
        return str(stream.read())
    except UnicodeDecodeError as error:
        found = f"byte {error.object[error.start]:#04x} at {error.start}"
        raise ValueError(f"standard input: expected {error.encoding} text, found {found}; convert it first") from None
