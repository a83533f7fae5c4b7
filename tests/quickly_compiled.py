"""For rooms whose tests compile many programs that run but a few steps: XLA compiles them quickly, not well."""

import os
from collections.abc import Iterator

import jax
import pytest

_NAME = "jax_disable_most_optimizations"


@pytest.fixture(scope="module", autouse=True)
def quickly_compiled() -> Iterator[None]:
    """Here and in the processes that a test starts."""
    before = jax.config.values[_NAME]
    jax.config.update(_NAME, True)
    os.environ[_NAME.upper()] = "1"
    yield
    del os.environ[_NAME.upper()]
    jax.config.update(_NAME, before)
