"""The arithmetic of a step, and how much of it the machine could do: their quotient is the MFU."""

import time
from typing import Any, Literal

import jax
import jax.numpy as jnp

from gemwright.core.module import named_leaves
from gemwright.kernels import native
from gemwright.training.run import Run


def step_flops(run: Run, specs: Any, length: int) -> float:
    """What one step needs, forth and back, without what is computed again.

    6 a parameter that is multiplied and token, the head's among them; and attention over half of the row, windows not
    taken off.
    """
    named = named_leaves(specs)
    multiplied = sum(spec.size for spec in named.values() if spec.is_matrix)
    heads = sum(spec.size // spec.fan_in for name, spec in named.items() if name.endswith("attention.query"))
    return 6.0 * run.tokens_per_step * (multiplied + heads * length)


def fast_dtype() -> Literal["float32", "bfloat16"]:
    """What products are quickest in where programs now run: bfloat16, but for a CPU without instructions for it."""
    return "bfloat16" if jax.default_backend() != "cpu" or native.multiplies_bfloat16() else "float32"


def machine_peak(dtype: str) -> float:
    """Operations a second of a large product on all devices of all processes, measured on one of them."""
    size = 2048 if jax.default_backend() == "cpu" else 8192
    # No rule of the tests' strict promotion stands in the way: both are of one type.
    matrix = jax.jit(lambda: jnp.full((size, size), 1.0 / size, jnp.dtype(dtype)))()
    product = jax.jit(lambda a: jax.lax.dot(a, a, preferred_element_type=jnp.float32))
    jax.block_until_ready(product(matrix))
    seconds = min(_seconds(product, matrix) for _ in range(3))
    # A CPU's devices share its cores.
    devices = jax.process_count() if jax.default_backend() == "cpu" else jax.device_count()
    return 2.0 * size**3 / seconds * devices


def _seconds(product: Any, matrix: jax.Array) -> float:
    begun = time.perf_counter()
    jax.block_until_ready(product(matrix))
    return time.perf_counter() - begun
