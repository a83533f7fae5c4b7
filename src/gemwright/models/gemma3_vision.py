"""Gemma 3 from the 4B on, whole: pictures anywhere between texts, read by SigLIP and the decoder of `gemma3.py`.

A picture of 896 x 896 pixels becomes 4096 patches, their means over squares of 4 x 4 the 256 soft tokens that
stand between `<start_of_image>` and `<end_of_image>`. Soft tokens of one picture see each other, those in front
too; everything else sees what stands before it, and in layers with a window nobody sees further back than that.
Values: google-deepmind/gemma `gemma/gm/vision`, transformers' Gemma 3.

Letters: B batch, P pictures, N soft tokens of one, T tokens, E width of the tower, D width of the decoder.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gemwright.core.cache import KVCache
from gemwright.core.module import module, weight
from gemwright.core.names import NameTable
from gemwright.core.ops import rms_norm
from gemwright.models import gemma3, siglip
from gemwright.models.gemma3 import Gemma3
from gemwright.models.seeing import DecodersConstants, ReadsText
from gemwright.models.siglip import SigLIP

FAMILY = "gemma3"

# ---------------------------------------------------------------------------------------- config


@dataclass(frozen=True)
class Config(DecodersConstants):
    """The constants of both halves.

    Attributes:
      picture_tokens: soft tokens of one picture, a square number.
    """

    vision: siglip.Config
    decoder: gemma3.Config
    picture_tokens: int = 256

    def __post_init__(self) -> None:
        if self.tokens_per_side**2 != self.picture_tokens or self.patches_per_side % self.tokens_per_side:
            raise ValueError(
                f"picture_tokens {self.picture_tokens}: expected a square number whose side divides the "
                f"{self.patches_per_side} patches of a picture's side"
            )

    @property
    def family(self) -> str:
        return FAMILY

    @property
    def patches_per_side(self) -> int:
        return self.vision.image_size // self.vision.patch_size

    @property
    def tokens_per_side(self) -> int:
        return round(self.picture_tokens**0.5)


PRESETS: dict[str, Config] = {
    name: Config(siglip.so400m(896), gemma3.PRESETS[name]) for name in ("gemma3-4b", "gemma3-12b", "gemma3-27b")
}
"""By the names of their decoders."""

# ----------------------------------------------------------------------------------------- parts


@module
class Projector:
    norm: jax.Array  # (E,)
    matrix: jax.Array  # (E, D), inputs first as in files; never quantised, a thousandth of the model

    @staticmethod
    def specs(config: Config) -> "Projector":
        tower, size = config.vision.embed_dim, config.decoder.embed_dim
        return Projector(
            norm=weight((tower,), ("vision",), init="zeros"),
            matrix=weight((tower, size), ("vision", "embed"), product=False),
        )

    def __call__(self, patches: jax.Array, config: Config) -> jax.Array:
        """(P, patches, E) -> (P, N, D)."""
        normed = rms_norm(pool(patches, config), self.norm, config.vision.norm_epsilon)
        return jnp.einsum("pne,ed->pnd", normed, self.matrix.astype(normed.dtype))


def pool(patches: jax.Array, config: Config) -> jax.Array:
    """(P, patches, E) -> (P, N, E): means over squares of patches, row by row."""
    side, square = config.tokens_per_side, config.patches_per_side // config.tokens_per_side
    grid = patches.reshape(len(patches), side, square, side, square, -1)
    means = jnp.mean(grid.astype(jnp.float32), axis=(2, 4))
    return means.reshape(len(patches), side * side, -1).astype(patches.dtype)


# ----------------------------------------------------------------------------------------- model


@module
class Gemma3Vision(ReadsText):
    vision: SigLIP
    projector: Projector
    decoder: Gemma3

    @staticmethod
    def specs(config: Config) -> "Gemma3Vision":
        return Gemma3Vision(SigLIP.specs(config.vision), Projector.specs(config), Gemma3.specs(config.decoder))

    def look(self, pixels: jax.Array, config: Config) -> jax.Array:
        """(P, S, S, 3) pixels in [-1, 1] -> (P, N, D): what the decoder reads in the place of tokens."""
        return self.projector(self.vision(pixels, config.vision), config)

    def read(
        self,
        tokens: jax.Array,
        pictures: jax.Array,
        places: jax.Array,
        config: Config,
        *,
        positions: jax.Array | None = None,
        segments: jax.Array | None = None,
        cache: tuple[KVCache, ...] | None = None,
    ) -> tuple[jax.Array, tuple[KVCache, ...] | None]:
        """Texts with pictures anywhere between them.

        Args:
          tokens: (B, T); what stands at soft tokens does not matter.
          pictures: (P, N, D), as `look` gives them.
          places: (B, T) which of the P x N vectors stands in a token's place, -1 where none does. A picture's stand
            side by side, and all in one call.
          config: the constants the weights were made for.
          positions, segments, cache: as `Gemma` has them.

        Returns:
          (B, T, D) after the final norm, and the cache with these tokens in it.
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        text, soft = self.decoder.embed(jnp.where(places < 0, tokens, 0), config.decoder), places >= 0
        vectors = pictures.reshape(-1, pictures.shape[-1]).astype(text.dtype)
        x = jnp.where(soft[..., None], vectors[places], text)  # pictures are not scaled as the tokens' rows are
        to_the_end = config.picture_tokens - 1 - places % config.picture_tokens
        reach = jnp.where(soft, positions + to_the_end, positions)
        return self.decoder.run(x, gemma3.steps(config.decoder, positions, segments, reach), config.decoder, cache)

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
        assert len(pixels) == 1
        assert not tokens.size
        places = jnp.arange(config.picture_tokens, dtype=jnp.int32)[None]
        vectors, nothing = self.look(pixels, config), jnp.zeros_like(places)
        hidden, kept = self.read(nothing, vectors, places, config, positions=start + places, cache=cache)
        assert kept is not None
        return hidden[:, -1], kept


# ------------------------------------------------------------------------------------ name table

HUGGING_FACE_NAMES: dict[str, NameTable] = {
    FAMILY: (
        *((f"vision.{ours}", f"vision_tower.{theirs}") for ours, theirs in siglip.HUGGING_FACE_NAMES),
        ("projector.norm", "multi_modal_projector.mm_soft_emb_norm.weight"),
        ("projector.matrix", "multi_modal_projector.mm_input_projection_weight"),
        *((f"decoder.{ours}", f"language_model.{theirs}") for ours, theirs in gemma3.HUGGING_FACE_NAMES[gemma3.FAMILY]),
    ),
}
"""A weight's name here, and in the files that transformers 5 writes; older ones as for PaliGemma."""
