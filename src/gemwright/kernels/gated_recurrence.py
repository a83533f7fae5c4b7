"""The real-gated linear recurrent unit (De et al., arXiv 2402.19427): both gates, and the scan over time, in one call.

Letters: R rows of a call, T tokens, W width, H blocks of channels.
"""

from enum import IntEnum
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from gemwright.kernels import native

_FEW = 3
"""Up to so many tokens a sum of products is faster than XLA's product: it widens bfloat16 without keeping it."""


class Place(IntEnum):
    """What a token finds behind it; recurrent_channels.h has the same."""

    PADDING = 0  # no token: the state stays as it is
    GOES_ON = 1
    FIRST = 2  # of its document, at position 0: no past, and its input goes in unscaled
    ALONE = 3  # no past in this call, but one before it


class Gates(NamedTuple):
    """Each block of channels is opened by its own channels alone.

    Attributes:
      input, decay: (H, W/H, W/H), inputs first; bfloat16 or float32, both alike.
      input_bias, decay_bias: (H, W/H).
    """

    input: jax.Array
    input_bias: jax.Array
    decay: jax.Array
    decay_bias: jax.Array


@jax.custom_jvp
def gated_recurrence(x: jax.Array, gates: Gates, rate: jax.Array, places: jax.Array, start: jax.Array) -> jax.Array:
    """h[t] = a h[t-1] + sqrt(1 - a^2) (input gate * x), where a = e^(-rate * decay gate).

    Args:
      x: (R, T, W) of floats, by which the gates too are opened.
      rate: (W,) float32, not negative.
      places: (R, T) int32, a `Place` each.
      start: (R, W) float32, h before the first token.

    Returns:
      (R, T, W) float32, every h; on the CPU by the native kernel where there is one.
    """
    return jax.lax.platform_dependent(x, gates, rate, places, start, cpu=_on_cpu, default=gated_recurrence_reference)


def _on_cpu(x: jax.Array, gates: Gates, rate: jax.Array, places: jax.Array, start: jax.Array) -> jax.Array:
    if not native.available():
        return gated_recurrence_reference(x, gates, rate, places, start)
    call = jax.ffi.ffi_call(
        native.GATED_RECURRENCE, jax.ShapeDtypeStruct(x.shape, jnp.float32), vmap_method="sequential"
    )
    biases = gates.input_bias.astype(jnp.float32), gates.decay_bias.astype(jnp.float32)
    arrays = gates.input, gates.decay, *biases, rate, places, start
    return call(x.astype(jnp.float32), *arrays, level=native.choice())


def gated_recurrence_reference(
    x: jax.Array, gates: Gates, rate: jax.Array, places: jax.Array, start: jax.Array
) -> jax.Array:
    """The same in plain JAX."""
    kind = places[..., None]
    first, alone = kind == Place.FIRST, (kind == Place.FIRST) | (kind == Place.ALONE)
    log_decay = -rate * _block_gate(x, gates.decay, gates.decay_bias)
    gated = x.astype(jnp.float32) * _block_gate(x, gates.input, gates.input_bias)
    inputs = gated * jnp.where(first, 1.0, bounded_sqrt(-jnp.expm1(2.0 * log_decay)))
    decay = jnp.where(alone, 0.0, jnp.exp(log_decay))
    start = jnp.where(alone[:, 0], 0.0, start)  # a factor of 0 would not hide what is not a number
    real = kind != Place.PADDING
    return linear_scan(jnp.where(real, decay, 1.0), jnp.where(real, inputs, 0.0), start)


def _block_gate(x: jax.Array, blocks: jax.Array, bias: jax.Array) -> jax.Array:
    """(R, T, W) float32 between 0 and 1."""
    apart = x.reshape(*x.shape[:2], *bias.shape).astype(jnp.float32)
    wide = blocks.astype(jnp.float32)
    if apart.shape[0] * apart.shape[1] <= _FEW:
        opened = jnp.sum(apart[..., None] * wide, axis=-2)
    else:
        opened = jnp.einsum("rthi,hio->rtho", apart, wide)
    return jax.nn.sigmoid(opened + bias.astype(jnp.float32)).reshape(x.shape)


@jax.custom_jvp
def bounded_sqrt(x: jax.Array) -> jax.Array:
    """The square root, with a derivative of at most 1000: near 0 that of the root itself has no bound."""
    return jnp.sqrt(x)


@bounded_sqrt.defjvp
def _bounded_sqrt_jvp(primals: tuple[jax.Array], tangents: tuple[jax.Array]) -> tuple[jax.Array, jax.Array]:
    root = bounded_sqrt(*primals)
    return root, tangents[0] / jnp.maximum(2 * root, 1e-3)


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


@gated_recurrence.defjvp
def _derivative(primals: tuple[Any, ...], tangents: tuple[Any, ...]) -> tuple[jax.Array, jax.Array]:
    # XLA cannot differentiate a custom call: what learns runs the reference, forward too.
    x, gates, rate, places, start = primals

    def of_floats(x: jax.Array, gates: Gates, rate: jax.Array, start: jax.Array) -> jax.Array:
        return gated_recurrence_reference(x, gates, rate, places, start)

    return jax.jvp(of_floats, (x, gates, rate, start), (*tangents[:3], tangents[4]))
