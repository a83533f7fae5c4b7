"""EmbeddingGemma: Gemma 3 that looks both ways, and one vector for a whole text.

The hidden states of a text's tokens, BOS and EOS among them, are averaged, pass through dense layers without bias,
and are given the length 1. Values: huggingface/transformers `models/gemma3/{modeling,configuration}_gemma3.py` and
`convert_gemma3_weights.py`.

Letters: B batch, T tokens, E size of an embedding.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gemwright.core.module import module, weight
from gemwright.core.weights import Weight, project
from gemwright.models import gemma3
from gemwright.models.gemma3 import Gemma3


@dataclass(frozen=True)
class Config:
    """The constants of the text's reader and of the layers after it.

    Attributes:
      text: its windows hold on either side: a token sees `window - 1` before it and as many after it.
      dense: the widths that the dense layers give, one after the other.
    """

    text: gemma3.Config
    dense: tuple[int, ...]

    @property
    def size(self) -> int:
        """Of an embedding."""
        return (self.text.embed_dim, *self.dense)[-1]


PRESETS: dict[str, Config] = {
    "embeddinggemma-300m": Config(
        gemma3.gemma3(
            257,
            vocab_size=262_144,
            embed_dim=768,
            num_layers=24,
            num_heads=3,
            num_kv_heads=1,
            head_dim=256,
            mlp_dim=1152,
            max_positions=2048,
        ),
        dense=(3072, 768),
    )
}


@module
class EmbeddingGemma:
    text: Gemma3
    dense: tuple[Weight, ...]  # (out, in) each

    @staticmethod
    def specs(config: Config) -> "EmbeddingGemma":
        sizes = (config.text.embed_dim, *config.dense)
        pairs = zip(sizes[1:], sizes, strict=False)
        return EmbeddingGemma(Gemma3.specs(config.text), tuple(weight(pair, ("dense", "embed")) for pair in pairs))

    def __call__(self, tokens: jax.Array, config: Config, *, positions: jax.Array) -> jax.Array:
        """One vector of length 1 for each text.

        Args:
          tokens: (B, T) integers.
          positions: (B, T), from 0; -1 marks padding.

        Returns:
          (B, E) float32.
        """
        shared = gemma3.steps(config.text, positions, both_ways=True)
        hidden, _ = self.text.run(self.text.embed(tokens, config.text), shared, config.text)
        real = (positions >= 0)[..., None]
        total = jnp.sum(jnp.where(real, hidden.astype(jnp.float32), 0.0), axis=1)
        vector = total / jnp.maximum(jnp.sum(real, axis=1), 1).astype(jnp.float32)
        for layer in self.dense:
            vector = project(vector, layer)
        return unit(vector)


def unit(vectors: jax.Array) -> jax.Array:
    """(..., E) of length 1; zeros stay zeros."""
    return vectors / jnp.maximum(jnp.linalg.norm(vectors, axis=-1, keepdims=True), 1e-12)
