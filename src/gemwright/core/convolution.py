"""A causal convolution over time, and what it keeps.

Letters: R rows of a call, T tokens, W width, C taps of the convolution.
"""

import jax
import jax.numpy as jnp


@jax.jit
def causal_conv(x: jax.Array, weight: jax.Array, bias: jax.Array, seen: jax.Array, tail: jax.Array) -> jax.Array:
    """Each channel mixed with its own past: the sum over taps of a weight times the input that many tokens back.

    Args:
      x: (R, T, W).
      weight: (W, C), the current token's last.
      bias: (W,).
      seen: (R, T, C) booleans: whether a token looks at the one so many places back; others count as zeros.
      tail: (R, C-1, W), what came before.

    Returns:
      (R, T, W) in the dtype of `x`; sums are float32.
    """
    taps, length = weight.shape[1], x.shape[1]
    whole = jnp.concatenate([tail.astype(x.dtype), x], axis=1).astype(jnp.float32)
    wide = weight.astype(jnp.float32)
    mixed = jnp.broadcast_to(bias.astype(jnp.float32), x.shape)
    for back in range(taps):
        past = whole[:, taps - 1 - back :][:, :length]
        mixed += jnp.where(seen[:, :, back, None], past, 0.0) * wide[:, taps - 1 - back]
    return mixed.astype(x.dtype)


def next_tail(x: jax.Array, count: jax.Array, tail: jax.Array) -> jax.Array:
    """(R, C-1, W): the last inputs after the first (R,) `count` tokens of x (R, T, W)."""
    whole = jnp.concatenate([tail.astype(x.dtype), x], axis=1)
    at = count[:, None] + jnp.arange(tail.shape[1])
    return jnp.take_along_axis(whole, at[..., None], axis=1)
