"""What models of a tower and a decoder have in common: where no picture is, they are their decoder.

Letters: B batch, P pictures, S side of a picture, T tokens, D width of the decoder, V vocabulary.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import jax
import jax.numpy as jnp

from gemwright.core.cache import KVCache
from gemwright.core.weights import Weight
from gemwright.models import gemma


class DecodersConstants:
    """For a `Config` of both halves: what other rooms ask of any model's, and of those that see.

    Attributes:
      vision: of the tower.
      picture_tokens: that a picture takes in a row.
      whole_prompts: whether pictures stand in front, and all tokens up to the prompt's last see each other, so that it
        is read in one call; otherwise they stand anywhere, and each is read by itself.
    """

    vision: Any
    decoder: Any
    picture_tokens: Any
    whole_prompts: ClassVar[bool] = False

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


class ReadsText(ABC):
    """For a model of both halves: text alone, and what follows pictures that were read."""

    decoder: Any

    @abstractmethod
    def read_part(
        self,
        pixels: jax.Array,
        tokens: jax.Array,
        config: Any,
        *,
        start: jax.Array,
        length: jax.Array,
        cache: tuple[KVCache, ...],
    ) -> tuple[jax.Array, tuple[KVCache, ...]]:
        """What one call reads of a prompt with pictures, into one row.

        Args:
          pixels: (P, S, S, 3) in [-1, 1]: a picture, or all of a whole prompt's.
          tokens: (1, T) the text of a whole prompt, padded on the right; (1, 0) where a picture is read by itself.
          config: the constants the weights were made for.
          start: () position of the first soft token; 0 for a whole prompt.
          length: () tokens of text without the padding.
          cache: one a layer.

        Returns:
          (1, D) the hidden state of the last token, and the cache with all of them in it.
        """

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
