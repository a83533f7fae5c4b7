"""A weight that notes what it is multiplied with."""

from typing import Any

import jax
import jax.numpy as jnp


class Recording:
    """Stands in a weight's place while a program is traced, and keeps the sums for that program to return.

    Attributes:
      weight: the weight itself, with which is computed.
      squares: for each product, (in,) float32: the sum over its rows of each input's square.
    """

    def __init__(self, weight: Any) -> None:
        self.weight = weight
        self.squares: list[jax.Array] = []

    @property
    def shape(self) -> tuple[int, ...]:
        return self.weight.shape

    @property
    def dtype(self) -> jnp.dtype:
        return self.weight.dtype

    def note(self, rows: jax.Array) -> None:
        """Rows (n, in) are about to be multiplied."""
        self.squares.append(jnp.sum(jnp.square(rows.astype(jnp.float32)), axis=0))
