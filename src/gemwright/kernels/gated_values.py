"""The gate of an MLP in training, gelu(gate) * up: each value is read once, and rounded once at the end."""

import jax
import jax.numpy as jnp

from gemwright.kernels import native


@jax.custom_vjp
def gated_values(gates: jax.Array, ups: jax.Array) -> jax.Array:
    """gelu(gates) * ups, gelu by its tanh, and its derivatives; by the native kernel, where `native.serves`.

    Args:
      gates, ups: of one shape and dtype, float32 or bfloat16.

    Returns:
      the same shape and dtype; the arithmetic is float32.
    """
    return _forward(gates, ups)[0]


def gated_values_reference(gates: jax.Array, ups: jax.Array) -> jax.Array:
    """The same in plain JAX."""
    return (jax.nn.gelu(gates.astype(jnp.float32), approximate=True) * ups.astype(jnp.float32)).astype(gates.dtype)


Pair = tuple[jax.Array, jax.Array]


def _forward(gates: jax.Array, ups: jax.Array) -> tuple[jax.Array, Pair]:
    call = jax.ffi.ffi_call(
        native.GATED_VALUES, jax.ShapeDtypeStruct(gates.shape, gates.dtype), vmap_method="sequential"
    )
    return call(gates, ups, level=native.choice()), (gates, ups)


def _backward(kept: Pair, gradient: jax.Array) -> Pair:
    result = jax.ShapeDtypeStruct(gradient.shape, gradient.dtype)
    call = jax.ffi.ffi_call(native.GATED_VALUES_BACK, (result, result), vmap_method="sequential")
    to_gates, to_ups = call(*kept, gradient, level=native.choice())
    return to_gates, to_ups


gated_values.defvjp(_forward, _backward)
