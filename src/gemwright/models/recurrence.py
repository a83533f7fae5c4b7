"""The recurrent block of Griffin: a convolution and a gated linear recurrence, gated by a branch of its own.

Values: google-deepmind/recurrentgemma `jax/{layers,modules}.py`. All of the recurrence is computed in float32.

Letters: B batch, T tokens, D embedding width, W width of the recurrence, H blocks of its gates, C taps of the
convolution.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.core.cache import RecurrentState, empty_state
from gemwright.core.convolution import causal_conv, next_tail
from gemwright.core.module import module, weight
from gemwright.core.weights import Weight, gated, project, project_each
from gemwright.kernels.gated_recurrence import Gates, Place, gated_recurrence


@module
class Linear:
    """A product and a bias."""

    weight: Weight  # (*out, *in)
    bias: jax.Array  # (*out,)

    @staticmethod
    def specs(shape: tuple[int, ...], axes: tuple[str, ...], inputs: int = 1) -> "Linear":
        outs = len(shape) - inputs
        return Linear(weight(shape, axes, inputs=inputs), weight(shape[:outs], axes[:outs], init="zeros"))

    def __call__(self, x: jax.Array, inputs: int = 1) -> jax.Array:
        return project(x, self.weight, inputs) + self.bias.astype(x.dtype)


def both(x: jax.Array, first: Linear, second: Linear) -> tuple[jax.Array, jax.Array]:
    """Two of them over the same rows."""
    one, other = project_each(x, (first.weight, second.weight))
    return one + first.bias.astype(x.dtype), other + second.bias.astype(x.dtype)


@module
class Recurrence:
    """A real-gated linear recurrent unit (RG-LRU) after a convolution, gated by a branch of its own."""

    gate: Linear  # (W, D)
    input: Linear  # (W, D)
    conv_weight: jax.Array  # (W, 1, C), as stored
    conv_bias: jax.Array  # (W,)
    input_gate: jax.Array  # (H, W/H, W/H), inputs first
    input_gate_bias: jax.Array  # (H, W/H)
    decay_gate: jax.Array  # (H, W/H, W/H), inputs first
    decay_gate_bias: jax.Array  # (H, W/H)
    decay: jax.Array  # (W,)
    output: Linear  # (D, W)

    @staticmethod
    def specs(d: int, w: int, h: int, taps: int) -> "Recurrence":
        blocks = weight((h, w // h, w // h), ("heads", "block", "block"), product=False)
        bias = weight((h, w // h), ("heads", "block"), init="zeros", product=False)
        return Recurrence(
            gate=Linear.specs((w, d), ("recurrent", "embed")),
            input=Linear.specs((w, d), ("recurrent", "embed")),
            conv_weight=weight((w, 1, taps), ("recurrent", "one", "taps"), init=_small, product=False),
            conv_bias=weight((w,), ("recurrent",), init="zeros"),
            input_gate=blocks,
            input_gate_bias=bias,
            decay_gate=blocks,
            decay_gate_bias=bias,
            decay=weight((w,), ("recurrent",), init=_ring),
            output=Linear.specs((d, w), ("embed", "recurrent")),
        )

    def __call__(
        self, x: jax.Array, positions: jax.Array, segments: jax.Array | None, cache: RecurrentState | None
    ) -> tuple[jax.Array, RecurrentState | None]:
        """(B, T, D) -> (B, T, D); positions and segments are (B, T), as `Griffin` takes them."""
        gate, inputs = both(x, self.gate, self.input)
        width, _, taps = self.conv_weight.shape
        state = empty_state(len(x), width, taps, x.dtype) if cache is None else cache.of_call()
        seen = jnp.stack([_same_document(positions, segments, back) for back in range(taps)], axis=-1)
        mixed = causal_conv(inputs, self.conv_weight[:, 0], self.conv_bias, seen, state.tail)
        gates = Gates(self.input_gate, self.input_gate_bias, self.decay_gate, self.decay_gate_bias)
        rate = 8.0 * jax.nn.softplus(self.decay.astype(jnp.float32))
        hidden = gated_recurrence(mixed, gates, rate, _places(positions, segments), state.hidden)
        if cache is not None:
            count = jnp.sum(positions >= 0, axis=1)
            cache = cache.after_call(hidden[:, -1], next_tail(inputs, count, state.tail), count > 0)
        return self.output(gated(gate, hidden.astype(x.dtype))), cache


def _places(positions: jax.Array, segments: jax.Array | None) -> jax.Array:
    """(B, T) of `Place`: a document's first token, at position 0, has neither a past nor a factor."""
    follows = _same_document(positions, segments, 1).at[:, 0].set(True)
    places = jnp.where(follows, Place.GOES_ON, Place.ALONE)
    places = jnp.where(positions == 0, Place.FIRST, places)
    return jnp.where(positions >= 0, places, Place.PADDING).astype(jnp.int32)


def _same_document(positions: jax.Array, segments: jax.Array | None, back: int) -> jax.Array:
    """(B, T): whether the token so many places back belongs to the same document."""
    within = positions >= back
    if segments is None or back == 0:
        return within
    before = jnp.pad(segments, ((0, 0), (back, 0)), constant_values=-1)[:, :-back]
    return within & (before == segments)


def _small(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """The convolution's beginning: a hundredth of the usual variance."""
    return generator.standard_normal(shape) * math.sqrt(0.01 / shape[-1])


def _ring(generator: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray[Any, Any]:
    """Decays that begin spread over the ring between radius 0.9 and 0.999, even by area."""
    radius = np.sqrt(generator.uniform(0.9**2, 0.999**2, shape))
    return np.log(np.expm1(-np.log(radius)))  # softplus of it is -log(radius)
