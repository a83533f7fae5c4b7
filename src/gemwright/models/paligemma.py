"""PaliGemma and PaliGemma 2: pictures before a prompt, read by SigLIP and Gemma as one prefix.

Order of a row: the patches of its pictures, BOS, the prompt, a newline, the answer, EOS. All up to the newline
see each other; the answer sees what stands before it. Sources: google-research/big_vision
`models/proj/paligemma/paligemma.py`; where it and transformers differ, ours is transformers: PaliGemma 2
keeps Gemma 2's windows and caps, within the prefix no window holds.

Letters: B batch, P pictures of a row, N patches of one, T tokens, D width of the decoder, V vocabulary.
"""

from dataclasses import dataclass, replace
from typing import ClassVar

import jax
import jax.numpy as jnp

from gemwright.core.cache import KVCache
from gemwright.core.module import module, weight
from gemwright.core.names import NameTable
from gemwright.core.weights import Weight, project
from gemwright.models import gemma, siglip
from gemwright.models.gemma import Gemma, Step
from gemwright.models.seeing import DecodersConstants, ReadsText
from gemwright.models.siglip import SigLIP

# ---------------------------------------------------------------------------------------- config

VOCAB_SIZE = 257_152
"""Gemma's 256,000, 1024 places in a picture (`<loc0000>` and on), 128 shapes of a mask (`<seg000>` and on)."""

_FAMILIES = {"gemma": "paligemma", "gemma2": "paligemma2"}
"""By family of the decoder."""


@dataclass(frozen=True)
class Config(DecodersConstants):
    """The constants of both halves.

    Attributes:
      image_token: the id with which other libraries mark a patch in a row of ids; nothing here reads it.
    """

    vision: siglip.Config
    decoder: gemma.Config
    image_token: int = VOCAB_SIZE
    whole_prompts: ClassVar[bool] = True

    @property
    def family(self) -> str:
        return _FAMILIES[self.decoder.family]

    @property
    def picture_tokens(self) -> int:
        """That a picture takes in a row: one a patch."""
        return self.vision.patches


def paligemma(decoder: str, image_size: int) -> Config:
    """A PaliGemma of one of Gemma's presets, with So400m/14 for pictures of one size."""
    return Config(siglip.so400m(image_size), replace(gemma.PRESETS[decoder], vocab_size=VOCAB_SIZE))


_DECODERS = {
    "paligemma-3b": "gemma-2b",
    "paligemma2-3b": "gemma2-2b",
    "paligemma2-10b": "gemma2-9b",
    "paligemma2-28b": "gemma2-27b",
}

PRESETS: dict[str, Config] = {
    f"{name}-{size}": paligemma(decoder, size) for name, decoder in _DECODERS.items() for size in (224, 448, 896)
}

# ----------------------------------------------------------------------------------------- parts


@module
class Projector:
    matrix: Weight  # (D, width of the tower)
    bias: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "Projector":
        size = config.decoder.embed_dim
        return Projector(
            matrix=weight((size, config.vision.embed_dim), ("embed", "vision")),
            bias=weight((size,), ("embed",), init="zeros"),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        return project(x, self.matrix) + self.bias.astype(x.dtype)


# ----------------------------------------------------------------------------------------- model


@module
class PaliGemma(ReadsText):
    vision: SigLIP
    projector: Projector
    decoder: Gemma

    @staticmethod
    def specs(config: Config) -> "PaliGemma":
        return PaliGemma(SigLIP.specs(config.vision), Projector.specs(config), Gemma.specs(config.decoder))

    def read(
        self,
        pixels: jax.Array,
        tokens: jax.Array,
        config: Config,
        *,
        prompts: jax.Array,
        lengths: jax.Array | None = None,
        cache: tuple[KVCache, ...] | None = None,
    ) -> tuple[jax.Array, tuple[KVCache, ...] | None]:
        """The hidden states from which `logits` reads what follows each token of text.

        Args:
          pixels: (B x P, S, S, 3) in [-1, 1]: as many pictures for each row, row by row.
          tokens: (B, T): BOS, prompt, newline and perhaps the answer, padded on the right.
          config: the constants the weights were made for.
          prompts: (B,) tokens of the prompt, BOS and newline included.
          lengths: (B,) tokens of each row without its padding; T unless given.
          cache: one a layer, empty. Further tokens are read by `__call__`, at positions from P x N + length on.

        Returns:
          (B, T, D) after the final norm, and the cache with the pictures and the tokens in it.
        """
        pictures, text = self.look(pixels, config), self.decoder.embed(tokens, config.decoder)
        pictures = pictures.reshape(len(tokens), -1, pictures.shape[-1])
        patches = pictures.shape[1]
        # The pictures' vectors are not scaled as the tokens' rows are.
        x = jnp.concatenate([pictures.astype(text.dtype), text], axis=1)
        index = jnp.broadcast_to(jnp.arange(x.shape[1]), x.shape[:2])
        ends = x.shape[1] if lengths is None else patches + lengths[:, None]
        step = Step.of(config.decoder, jnp.where(index < ends, index, -1), prefix=patches + prompts)
        hidden, cache = self.decoder.run(x, step, config.decoder, cache)
        return hidden[:, patches:], cache

    def read_part(
        self,
        pixels: jax.Array,
        tokens: jax.Array,
        config: Config,
        *,
        start: jax.Array,
        length: jax.Array,
        cache: tuple[KVCache, ...],
    ) -> tuple[jax.Array, tuple[KVCache, ...]]:
        lengths = length[None]
        hidden, kept = self.read(pixels, tokens, config, prompts=lengths, lengths=lengths, cache=cache)
        assert kept is not None
        return hidden[:, length - 1], kept

    def look(self, pixels: jax.Array, config: Config) -> jax.Array:
        """(B, S, S, 3) pixels -> (B, N, D): what the decoder reads in the place of tokens."""
        return self.projector(self.vision(pixels, config.vision))


# ------------------------------------------------------------------------------------ name table


def _names(decoder: NameTable) -> NameTable:
    return (
        *((f"vision.{ours}", f"vision_tower.{theirs}") for ours, theirs in siglip.HUGGING_FACE_NAMES),
        ("projector.matrix", "multi_modal_projector.linear.weight"),
        ("projector.bias", "multi_modal_projector.linear.bias"),
        *((f"decoder.{ours}", f"language_model.{theirs}") for ours, theirs in decoder),
    )


HUGGING_FACE_NAMES: dict[str, NameTable] = {
    family: _names(gemma.HUGGING_FACE_NAMES[decoder]) for decoder, family in _FAMILIES.items()
}
"""By family: a weight's name here, and in the files that transformers 5 writes. Older files put
`vision_tower.vision_model.` where these have `vision_tower.`."""
