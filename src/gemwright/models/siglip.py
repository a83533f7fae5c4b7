"""SigLIP's vision tower: patches of a picture in, one vector a patch out; every patch sees every other.

Values: google-research/big_vision `models/vit.py` (So400m/14), as PaliGemma and Gemma 3 use it, without the
pooling head. LayerNorms and softmax in float32, as transformers computes them.

Letters: B batch, S side of the picture in pixels, P side of a patch, N patches, D embedding width, H heads,
K head size, F width of the MLP.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp

from gemwright.core.module import module, weight
from gemwright.core.names import NameTable
from gemwright.core.ops import attend, layer_norm
from gemwright.core.weights import Weight, project, project_each

# ---------------------------------------------------------------------------------------- config


@dataclass(frozen=True)
class Config:
    """All constants of a tower.

    Attributes:
      image_size: pixels along one side of the square picture.
      patch_size: pixels along one side of a patch; divides `image_size`.
    """

    image_size: int
    patch_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    mlp_dim: int
    norm_epsilon: float = 1e-6

    def __post_init__(self) -> None:
        if self.image_size % self.patch_size:
            raise ValueError(f"image_size {self.image_size} is no multiple of patch_size {self.patch_size}")
        if self.embed_dim % self.num_heads:
            raise ValueError(f"embed_dim {self.embed_dim} is no multiple of num_heads {self.num_heads}")

    @property
    def head_dim(self) -> int:
        return self.embed_dim // self.num_heads

    @property
    def patches(self) -> int:
        return (self.image_size // self.patch_size) ** 2


def so400m(image_size: int) -> Config:
    """So400m/14, the shape-optimised tower of 400 million parameters, for pictures of one size."""
    return Config(image_size, patch_size=14, embed_dim=1152, num_layers=27, num_heads=16, mlp_dim=4304)


PRESETS: dict[str, Config] = {f"siglip-so400m-{size}": so400m(size) for size in (224, 448, 896)}

# ----------------------------------------------------------------------------------------- parts


@module
class Norm:
    scale: jax.Array  # (D,)
    bias: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "Norm":
        size = (config.embed_dim,)
        return Norm(weight(size, ("embed",), init="ones"), weight(size, ("embed",), init="zeros"))

    def __call__(self, x: jax.Array, config: Config) -> jax.Array:
        return layer_norm(x, self.scale, self.bias, config.norm_epsilon)


@module
class Attention:
    query: Weight  # (H, K, D)
    query_bias: jax.Array  # (H x K,)
    key: Weight  # (H, K, D)
    key_bias: jax.Array  # (H x K,)
    value: Weight  # (H, K, D)
    value_bias: jax.Array  # (H x K,)
    output: Weight  # (D, H, K)
    output_bias: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "Attention":
        d, h, k = config.embed_dim, config.num_heads, config.head_dim
        inward = weight((h, k, d), ("heads", "head_dim", "embed"))
        bias = weight((h * k,), ("heads",), init="zeros")
        outward = weight((d, h, k), ("embed", "heads", "head_dim"), inputs=2)
        return Attention(inward, bias, inward, bias, inward, bias, outward, weight((d,), ("embed",), init="zeros"))

    def __call__(self, x: jax.Array, config: Config) -> jax.Array:
        biases = (
            _as(bias, x).reshape(config.num_heads, -1) for bias in (self.query_bias, self.key_bias, self.value_bias)
        )
        products = project_each(x, (self.query, self.key, self.value))
        queries, keys, values = (product + bias for product, bias in zip(products, biases, strict=True))
        queries = queries * config.head_dim**-0.5
        everything = jnp.ones((x.shape[0], x.shape[1], x.shape[1]), bool)
        mixed = attend(queries, keys, values, everything, cap=None)
        return project(mixed, self.output, inputs=2) + _as(self.output_bias, x)


@module
class MLP:
    up: Weight  # (F, D)
    up_bias: jax.Array  # (F,)
    down: Weight  # (D, F)
    down_bias: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "MLP":
        d, f = config.embed_dim, config.mlp_dim
        return MLP(
            up=weight((f, d), ("mlp", "embed")),
            up_bias=weight((f,), ("mlp",), init="zeros"),
            down=weight((d, f), ("embed", "mlp")),
            down_bias=weight((d,), ("embed",), init="zeros"),
        )

    def __call__(self, x: jax.Array) -> jax.Array:
        wide = jax.nn.gelu(project(x, self.up) + _as(self.up_bias, x), approximate=True)
        return project(wide, self.down) + _as(self.down_bias, x)


@module
class Block:
    attention_norm: Norm
    attention: Attention
    mlp_norm: Norm
    mlp: MLP

    @staticmethod
    def specs(config: Config) -> "Block":
        return Block(Norm.specs(config), Attention.specs(config), Norm.specs(config), MLP.specs(config))

    def __call__(self, x: jax.Array, config: Config) -> jax.Array:
        x = x + self.attention(self.attention_norm(x, config), config)
        return x + self.mlp(self.mlp_norm(x, config))


def _as(bias: jax.Array, x: jax.Array) -> jax.Array:
    return bias.astype(x.dtype)


# ----------------------------------------------------------------------------------------- model


@module
class SigLIP:
    patch: jax.Array  # (D, 3, P, P), never quantised: pixels are few beside what they decide
    patch_bias: jax.Array  # (D,)
    position: jax.Array  # (N, D)
    layers: tuple[Block, ...]
    final_norm: Norm

    @staticmethod
    def specs(config: Config) -> "SigLIP":
        d, p = config.embed_dim, config.patch_size
        return SigLIP(
            patch=weight((d, 3, p, p), ("embed", "channel", "row", "column"), inputs=3, product=False),
            patch_bias=weight((d,), ("embed",), init="zeros"),
            position=weight((config.patches, d), ("patch", "embed"), product=False),
            layers=(Block.specs(config),) * config.num_layers,
            final_norm=Norm.specs(config),
        )

    def __call__(self, pixels: jax.Array, config: Config) -> jax.Array:
        """(B, S, S, 3) pixels in [-1, 1] -> (B, N, D), patches row by row, after the final norm."""
        patches = cut(pixels.astype(self.position.dtype), config)
        x = project(patches, self.patch, inputs=3) + self.patch_bias + self.position
        for block in self.layers:
            x = block(x, config)
        return self.final_norm(x, config)


def cut(pixels: jax.Array, config: Config) -> jax.Array:
    """(B, S, S, 3) -> (B, N, 3, P, P): patches row by row, each laid out as the weight that reads it."""
    b, side, p = pixels.shape[0], config.image_size // config.patch_size, config.patch_size
    if pixels.shape[1:] != (config.image_size, config.image_size, 3):
        raise ValueError(f"expected pixels of {(config.image_size,) * 2 + (3,)}, found {pixels.shape[1:]}")
    grid = pixels.reshape(b, side, p, side, p, 3)
    return grid.transpose(0, 1, 3, 5, 2, 4).reshape(b, side * side, 3, p, p)


# ------------------------------------------------------------------------------------ name table

HUGGING_FACE_NAMES: NameTable = (
    ("patch", "embeddings.patch_embedding.weight"),
    ("patch_bias", "embeddings.patch_embedding.bias"),
    ("position", "embeddings.position_embedding.weight"),
    ("layers.*.attention_norm.scale", "encoder.layers.*.layer_norm1.weight"),
    ("layers.*.attention_norm.bias", "encoder.layers.*.layer_norm1.bias"),
    ("layers.*.attention.query", "encoder.layers.*.self_attn.q_proj.weight"),
    ("layers.*.attention.query_bias", "encoder.layers.*.self_attn.q_proj.bias"),
    ("layers.*.attention.key", "encoder.layers.*.self_attn.k_proj.weight"),
    ("layers.*.attention.key_bias", "encoder.layers.*.self_attn.k_proj.bias"),
    ("layers.*.attention.value", "encoder.layers.*.self_attn.v_proj.weight"),
    ("layers.*.attention.value_bias", "encoder.layers.*.self_attn.v_proj.bias"),
    ("layers.*.attention.output", "encoder.layers.*.self_attn.out_proj.weight"),
    ("layers.*.attention.output_bias", "encoder.layers.*.self_attn.out_proj.bias"),
    ("layers.*.mlp_norm.scale", "encoder.layers.*.layer_norm2.weight"),
    ("layers.*.mlp_norm.bias", "encoder.layers.*.layer_norm2.bias"),
    ("layers.*.mlp.up", "encoder.layers.*.mlp.fc1.weight"),
    ("layers.*.mlp.up_bias", "encoder.layers.*.mlp.fc1.bias"),
    ("layers.*.mlp.down", "encoder.layers.*.mlp.fc2.weight"),
    ("layers.*.mlp.down_bias", "encoder.layers.*.mlp.fc2.bias"),
    ("final_norm.scale", "post_layernorm.weight"),
    ("final_norm.bias", "post_layernorm.bias"),
)
"""A weight's name here and in a Hugging Face checkpoint, behind the prefix that the model around it gives it."""
