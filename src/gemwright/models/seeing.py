"""What models of a tower and a decoder have in common: where no picture is, they are their decoder.

Letters: B batch, T tokens, D width of the decoder, V vocabulary.
"""

from typing import Any

import jax
import jax.numpy as jnp

from gemwright.core.cache import KVCache
from gemwright.core.weights import Weight
from gemwright.models import gemma


class DecodersConstants:
    """For a `Config` of both halves: what other rooms ask of any model's."""

    decoder: Any

    @property
    def vocab_size(self) -> int:
        return self.decoder.vocab_size

    @property
    def embed_dim(self) -> int:
        return self.decoder.embed_dim

    @property
    def num_layers(self) -> int:
        return self.decoder.num_layers

    @property
    def max_positions(self) -> int:
        return self.decoder.max_positions


class ReadsText:
    """For a model of both halves: text alone, and what follows pictures that were read."""

    decoder: Any

    @property
    def embedding(self) -> Weight:
        """(V, D), also the head."""
        return self.decoder.embedding

    def __call__(
        self,
        tokens: jax.Array,
        config: Any,
        *,
        positions: jax.Array | None = None,
        segments: jax.Array | None = None,
        cache: tuple[KVCache, ...] | None = None,
    ) -> tuple[jax.Array, tuple[KVCache, ...] | None]:
        """The decoder's hidden states, as `Gemma` says."""
        return self.decoder(tokens, config.decoder, positions=positions, segments=segments, cache=cache)

    def logits(self, hidden: jax.Array, config: Any) -> jax.Array:
        """(..., D) -> (..., V) in float32."""
        return self.decoder.logits(hidden, config.decoder)


def new_cache(config: Any, rows: int, capacity: int, dtype: jnp.dtype, bits: int | None = None) -> tuple[KVCache, ...]:
    """An empty cache for rows of up to `capacity` tokens, those of pictures among them, one a layer."""
    return gemma.new_cache(config.decoder, rows, capacity, dtype, bits)


def goes_back_from(config: Any) -> int:
    """The longest row that can be cut anywhere but within a picture."""
    return gemma.goes_back_from(config.decoder)
