"""Answers of other libraries are compared with the programs that users run, of which XLA leaves nothing out."""

from collections.abc import Iterator

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def fully_compiled() -> Iterator[None]:
    """No program of either kind is taken for the other."""
    name = "jax_disable_most_optimizations"
    before = jax.config.values[name]
    jax.config.update(name, False)
    jax.clear_caches()
    yield
    jax.config.update(name, before)
    jax.clear_caches()
