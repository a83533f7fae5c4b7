"""Recurrence over time: a causal convolution and a linear scan.

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


@jax.jit
def linear_scan(decay: jax.Array, inputs: jax.Array, start: jax.Array) -> jax.Array:
    """h[t] = decay[t] * h[t-1] + inputs[t], in a number of passes that grows with the logarithm of the length.

    Args:
      decay, inputs: (R, T, W) float32.
      start: (R, W) float32, h before the first token.

    Returns:
      (R, T, W), every h.
    """
    inputs = inputs.at[:, 0].add(decay[:, 0] * start)
    if inputs.shape[1] == 1:
        return inputs
    # Else XLA would fuse what comes before and after into the levels of the scan, and compute it anew in each.
    decay, inputs = jax.lax.optimization_barrier((decay, inputs))

    def join(first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return jax.lax.optimization_barrier(jax.lax.associative_scan(join, (decay, inputs), axis=1)[1])
