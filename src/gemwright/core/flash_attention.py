"""Attention among the tokens of one call, by a kernel that never holds the scores where there is one.

Ours on a CPU, cuDNN's for long texts on a GPU; `ops.attend_in_order` elsewhere.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.core.ops import attend_in_order
from gemwright.core.sharding import devices_in_use
from gemwright.kernels import native
from gemwright.kernels.text_attention import text_attention

_SHORTEST = 1024
"""Tokens; with fewer, the scores are small and the kernel gains little."""

_WIDEST_HEADS = {"8": 128, "9": 256, "10": 128}
"""That the kernel can differentiate, by the first number of the card's compute capability."""

_FORWARD = "dot_product_attention_fwd"


def attend_text(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    places: tuple[jax.Array, jax.Array | None],
    visible: Callable[[int | None], jax.Array],
    window: int | None,
    cap: float | None,
) -> jax.Array:
    """`ops.attend_in_order` by the best that is at hand.

    Args:
      places: (B, T) positions, negative in padding, and (B, T) segments of packed documents, which do not see each
        other, or None.
      visible: from a window to the (B, T, T) pairs that these allow; not called where a kernel needs no such array.
    """
    positions, segments = places
    if native.serves(queries) and devices_in_use() == 1:
        segments = jnp.zeros_like(positions) if segments is None else segments
        return text_attention(queries, keys, values, positions, segments, window, cap)
    if fits(queries, keys, window, cap):
        return flash_in_order(queries, keys, values, visible(None), one_text(positions, segments))
    return attend_in_order(queries, keys, values, visible(window), cap, window)


def fits(queries: jax.Array, keys: jax.Array, window: int | None, cap: float | None) -> bool:
    """Whether cuDNN's kernel computes this attention, here."""
    length, size = queries.shape[1], queries.shape[3]
    unbent = cap is None and (window is None or window >= length)
    narrow = queries.dtype == keys.dtype and queries.dtype in (jnp.bfloat16, jnp.float16)
    long = length >= _SHORTEST and length % 64 == 0
    return unbent and narrow and long and size % 8 == 0 and size <= _widest_head() and devices_in_use() == 1


def _widest_head() -> int:
    """0 where there is no such kernel."""
    if jax.default_backend() != "gpu":
        return 0
    capability = str(getattr(jax.devices()[0], "compute_capability", ""))  # "9.0", of AMD's "gfx942"
    return _WIDEST_HEADS.get(capability.partition(".")[0], 0)


def one_text(positions: jax.Array, segments: jax.Array | None) -> jax.Array:
    """() whether each row is one text from its beginning, so that a token sees itself and all before it."""
    whole = jnp.all(positions == jnp.arange(positions.shape[1]))
    return whole if segments is None else whole & jnp.all(segments == segments[:, :1])


def flash_in_order(
    queries: jax.Array, keys: jax.Array, values: jax.Array, visible: jax.Array, whole: jax.Array
) -> jax.Array:
    """`ops.attend_in_order` where `fits`: without a mask where `one_text` says `whole`, which is faster."""

    def masked(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        return flash_attention(queries, keys, values, visible)

    return jax.lax.cond(whole, flash_attention, masked, queries, keys, values)


def flash_attention(
    queries: jax.Array, keys: jax.Array, values: jax.Array, visible: jax.Array | None = None
) -> jax.Array:
    """Arguments and result are those of `ops.attend_in_order`; `visible` None hides what comes after a token."""
    mask = None if visible is None else visible[:, None]
    return jax.nn.dot_product_attention(
        queries, keys, values, mask=mask, is_causal=True, scale=1.0, implementation="cudnn"
    )


def is_flash_attention(primitive: Any, *_: Any, **parameters: Any) -> bool:
    """A policy for `jax.checkpoint`: the kernel is not run again to have what its derivative needs."""
    return primitive.name.startswith(_FORWARD) or parameters.get("target_name") == native.TEXT_ATTENTION
