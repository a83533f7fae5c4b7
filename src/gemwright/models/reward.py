"""A reward model: a decoder with one more weight, which reads a number where a text ends."""

import jax
import jax.numpy as jnp

from gemwright.core.module import module, weight
from gemwright.models.family import Config, Decoder, specs_of


@module
class RewardModel:
    """Its `config` is the decoder's."""

    decoder: Decoder
    head: jax.Array  # (1, D)

    @staticmethod
    def specs(config: Config) -> "RewardModel":
        head = weight((1, config.embed_dim), ("score", "embed"), init="zeros", product=False)
        return RewardModel(specs_of(config), head)

    def __call__(
        self,
        tokens: jax.Array,
        config: Config,
        ends: jax.Array,
        *,
        positions: jax.Array | None = None,
        segments: jax.Array | None = None,
    ) -> jax.Array:
        """The rewards of texts in rows.

        Args:
          tokens, positions, segments: (B, T), as a decoder takes them.
          ends: (B, N) places of the rows where rewards are read.

        Returns:
          (B, N) float32.
        """
        hidden, _ = self.decoder(tokens, config, positions=positions, segments=segments)
        read = jnp.take_along_axis(hidden, ends[..., None], axis=1).astype(jnp.float32)
        return jnp.einsum("bnd,d->bn", read, self.head[0].astype(jnp.float32))
