"""Attention of one new token a row over a bfloat16 cache: only slots that hold something seen are read."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.kernels import native


@partial(jax.custom_jvp, nondiff_argnums=(5, 6))
def slot_attention(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    at: jax.Array,
    positions: jax.Array,
    window: int | None,
    cap: float | None,
) -> jax.Array:
    """Grouped-query attention on the CPU, by the native kernel where there is one.

    Args:
      queries: (B, H, K) float32, scaled.
      keys, values: (B, S, G, K) bfloat16; G divides H.
      at: (B,) int32 positions of the queries; negative in an idle row, whose result is 0 from the kernel
        and arbitrary from the reference.
      positions: (B, S) int32 of the slots; negative in an empty one.
      window: keys seen, the query's own included; None for all.
      cap: soft cap of the scores.

    Returns:
      (B, H, K) float32; sums and softmax are float32.
    """
    if not native.available():
        return slot_attention_reference(queries, keys, values, at, positions, window, cap)
    call = jax.ffi.ffi_call(
        native.SLOT_ATTENTION, jax.ShapeDtypeStruct(queries.shape, jnp.float32), vmap_method="sequential"
    )
    options = {"window": np.int64(window or 0), "cap": np.float32(cap or 0.0), "level": native.choice()}
    return call(queries, keys, values, at, positions, **options)


def slot_attention_reference(
    queries: jax.Array,
    keys: jax.Array,
    values: jax.Array,
    at: jax.Array,
    positions: jax.Array,
    window: int | None,
    cap: float | None,
) -> jax.Array:
    """The same in plain JAX, over all slots."""
    b, h, k = queries.shape
    grouped = queries.reshape(b, keys.shape[2], -1, k)
    scores = jnp.einsum("bghk,bsgk->bghs", grouped, keys.astype(jnp.float32))
    scores = scores if cap is None else jnp.tanh(scores / cap) * cap
    seen = (positions >= 0) & (positions <= at[:, None])
    seen = seen if window is None else seen & (positions > at[:, None] - window)
    shares = jax.nn.softmax(jnp.where(seen[:, None, None], scores, jnp.finfo(jnp.float32).min), axis=-1)
    return jnp.einsum("bghs,bsgk->bghk", shares, values.astype(jnp.float32)).reshape(b, h, k)


@slot_attention.defjvp
def _derivative(
    window: int | None, cap: float | None, primals: tuple[jax.Array, ...], tangents: tuple[jax.Array, ...]
) -> tuple[jax.Array, jax.Array]:
    # The kernel gives no derivative of its own; decoding asks for none.
    queries, keys, values, at, positions = primals

    def of_floats(queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        return slot_attention_reference(queries, keys, values, at, positions, window, cap)

    return jax.jvp(of_floats, (queries, keys, values), tangents[:3])
