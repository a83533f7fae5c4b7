"""spaCy without neural networks: it only cuts words here, for which it would load PyTorch where that is installed."""

import sys
from collections.abc import Generator
from contextlib import contextmanager

_NETWORKS = ("torch", "transformers", "cupy")


@contextmanager
def without_networks() -> Generator[None]:
    """Let what is imported inside find no library of networks, but for those that are loaded already.

    They can be imported afterwards as ever. spaCy and presidio look for them only once: their own networks cannot be
    used in a process that imported them so.
    """
    hidden = [name for name in _NETWORKS if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # pyright: ignore[reportArgumentType, reportCallIssue]
    try:
        yield
    finally:
        for name in hidden:
            sys.modules.pop(name, None)
