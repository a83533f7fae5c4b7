"""The oracle's answers where pictures are read, as `make_fixtures` stored them."""

from functools import cache

import numpy as np

from tests.parity.stored import FOLDER as FOLDER


@cache
def stored(name: str) -> dict[str, np.ndarray]:
    """All arrays of a fixture, the oracle's name among them."""
    with np.load(FOLDER / f"{name}.npz") as file:
        return dict(file)
