"""The attention kernel of a GPU beside plain JAX with the heads of Gemma 2B: values, gradients and speed.

    python -m benchmarks.attention_gpu

The last line is one JSON object.
"""

import json
import time
import traceback
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console

from gemwright.core.flash_attention import flash_attention
from gemwright.core.ops import attend_in_order, causal

Figures = dict[str, Any]


def check() -> Figures:
    """For one text a row and for documents: how far apart they are, and how fast the kernel is at 8,192 tokens."""
    found: Figures = {"card": jax.devices()[0].device_kind}
    for kind, documents in {"whole": 1, "documents": 3}.items():
        try:
            found[kind] = {**_differences(documents, 2048), "tflops": _speed(documents, 8192)}
        except Exception as error:
            traceback.print_exc()
            found[kind] = {"error": str(error)[:500], "agree": False}
        Console(stderr=True, soft_wrap=True).print(f"attention, {kind}: {found[kind]}", highlight=False)
    return found


def _heads(documents: int, length: int) -> tuple[tuple[jax.Array, ...], jax.Array | None, jax.Array]:
    """Random queries, keys and values of Gemma 2B, the mask of documents, and who sees whom."""
    shapes, keys = ((8, 256), (1, 256), (1, 256)), jax.random.split(jax.random.key(documents), 3)
    drawn = [jax.random.normal(key, (1, length, *shape), jnp.bfloat16) for key, shape in zip(keys, shapes, strict=True)]
    index = jnp.arange(length)[None]
    segments = index * documents // length
    visible = causal(index, index, None) & (segments[:, :, None] == segments[:, None, :])
    return (drawn[0] / 16, *drawn[1:]), None if documents == 1 else visible, visible


def _with_gradients(attention: Callable[..., jax.Array]) -> Callable[..., Any]:
    """Of the sum of squared results, whose gradient is no constant; with the results."""

    def loss(heads: tuple[jax.Array, ...], *mask: Any) -> tuple[jax.Array, jax.Array]:
        mixed = attention(*heads, *mask)
        return jnp.sum(jnp.square(mixed.astype(jnp.float32))), mixed

    return jax.jit(jax.value_and_grad(loss, has_aux=True))


def _differences(documents: int, length: int) -> Figures:
    """The largest of each, over the largest value."""
    heads, mask, visible = _heads(documents, length)
    (_, mixed), slopes = _with_gradients(flash_attention)(heads, mask)
    wide = tuple(part.astype(jnp.float32) for part in heads)
    with jax.default_matmul_precision("highest"):
        reference = _with_gradients(lambda q, k, v, seen: attend_in_order(q, k, v, seen, None))
        (_, expected), expected_slopes = reference(wide, visible)
    pairs = zip((mixed, *slopes), (expected, *expected_slopes), strict=True)
    apart = [float(jnp.max(jnp.abs(a.astype(jnp.float32) - b)) / jnp.max(jnp.abs(b))) for a, b in pairs]
    named = dict(zip(("values", "to_queries", "to_keys", "to_values"), apart, strict=True))
    return {**named, "agree": max(apart) < 2e-2}


def _speed(documents: int, length: int) -> float:
    """10^12 operations a second, forth and back, over half of the scores."""
    heads, mask, _ = _heads(documents, length)
    both = _with_gradients(flash_attention)
    found = jax.block_until_ready(both(heads, mask))
    begun, calls = time.perf_counter(), 10
    for _ in range(calls):
        found = both(heads, mask)
    jax.block_until_ready(found)
    return round(6 * length**2 * 8 * 256 * calls / (time.perf_counter() - begun) / 1e12, 1)


if __name__ == "__main__":
    print(json.dumps(check()))
