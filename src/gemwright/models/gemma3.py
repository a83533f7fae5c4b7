"""Gemma 3, its text: five local layers to each global one, queries and keys normed, two bases of rotation.

Values: google-deepmind/gemma `gemma/gm/nn/_gemma.py`. Numerics are those of `gemma.py`, whose MLP and cache it has.

Letters: B batch, T tokens, D embedding width, H query heads, G key/value heads, K head size, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.core.cache import KVCache, rotated_attention
from gemwright.core.module import module, weight
from gemwright.core.names import NameTable
from gemwright.core.ops import Normed, rms_norm, rotate, rotation
from gemwright.core.weights import Weight, lookup, project, project_each
from gemwright.models.gemma import MLP, Step

FAMILY = "gemma3_text"
END_OF_TURN_ID = 106
"""One less than in the vocabulary of Gemma 1 and 2."""

# ---------------------------------------------------------------------------------------- config


@dataclass(frozen=True)
class Config:
    """All constants of a model.

    Attributes:
      windows: tokens seen by each layer, its pattern repeated over the layers; None sees all.
      query_scale: factor on the rotated queries.
      rope_base, local_rope_base: of layers that see all, and of those with a window.
      rope_factor: positions are divided by it in layers that see all.
      max_positions: the longest context the model was made for.
    """

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    query_scale: float
    windows: tuple[int | None, ...]
    rope_base: float = 1_000_000.0
    local_rope_base: float = 10_000.0
    rope_factor: float = 1.0
    norm_epsilon: float = 1e-6
    max_positions: int = 131_072
    family: str = FAMILY

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary embedding pairs its halves")

    def window(self, layer: int) -> int | None:
        return self.windows[layer % len(self.windows)]


def gemma3(window: int, query_scale: float | None = None, **sizes: Any) -> Config:
    """A Gemma 3 of any size: every sixth layer sees everything."""
    return Config(query_scale=query_scale or sizes["head_dim"] ** -0.5, windows=(*(window,) * 5, None), **sizes)


_SMALL: dict[str, Any] = {"vocab_size": 262_144, "num_kv_heads": 1, "head_dim": 256, "max_positions": 32_768}
_LARGE: dict[str, Any] = {"vocab_size": 262_144, "rope_factor": 8.0}

PRESETS: dict[str, Config] = {
    "gemma3-270m": gemma3(512, embed_dim=640, num_layers=18, num_heads=4, mlp_dim=2048, **_SMALL),
    "gemma3-1b": gemma3(512, embed_dim=1152, num_layers=26, num_heads=4, mlp_dim=6912, **_SMALL),
    "gemma3-4b": gemma3(
        1024, embed_dim=2560, num_layers=34, num_heads=8, num_kv_heads=4, head_dim=256, mlp_dim=10_240, **_LARGE
    ),
    "gemma3-12b": gemma3(
        1024, embed_dim=3840, num_layers=48, num_heads=16, num_kv_heads=8, head_dim=256, mlp_dim=15_360, **_LARGE
    ),
    "gemma3-27b": gemma3(
        1024,
        embed_dim=5376,
        num_layers=62,
        num_heads=32,
        num_kv_heads=16,
        head_dim=128,
        mlp_dim=21_504,
        query_scale=(5376 / 32) ** -0.5,  # the width a head would have, not the one it has
        **_LARGE,
    ),
}

# ----------------------------------------------------------------------------------------- parts


def steps(
    config: Config,
    positions: jax.Array,
    segments: jax.Array | None = None,
    reach: jax.Array | None = None,
    both_ways: bool = False,
) -> tuple[Step, Step]:
    """What layers with a window share, and what those that see everything do: each kind turns by a base of its own."""
    near = rotation(positions, config.head_dim, config.local_rope_base)
    far = rotation(positions.astype(jnp.float32) / config.rope_factor, config.head_dim, config.rope_base)
    local, whole = (Step(positions, turned, segments, reach=reach, both_ways=both_ways) for turned in (near, far))
    return local, whole


@module
class Attention:
    query: Weight  # (H, K, D)
    key: Weight  # (G, K, D)
    value: Weight  # (G, K, D)
    query_norm: jax.Array  # (K,)
    key_norm: jax.Array  # (K,)
    output: Weight  # (D, H, K)

    @staticmethod
    def specs(config: Config) -> "Attention":
        d, h, g, k = config.embed_dim, config.num_heads, config.num_kv_heads, config.head_dim
        norm = weight((k,), ("head_dim",), init="zeros")
        return Attention(
            query=weight((h, k, d), ("heads", "head_dim", "embed")),
            key=weight((g, k, d), ("kv_heads", "head_dim", "embed")),
            value=weight((g, k, d), ("kv_heads", "head_dim", "embed")),
            query_norm=norm,
            key_norm=norm,
            output=weight((d, h, k), ("embed", "heads", "head_dim"), inputs=2),
        )

    def __call__(
        self, x: jax.Array | Normed, step: Step, window: int | None, cache: KVCache | None, config: Config
    ) -> tuple[jax.Array, KVCache | None]:
        queries, keys, values = project_each(x, (self.query, self.key, self.value))
        queries = rms_norm(queries, self.query_norm, config.norm_epsilon)
        keys = rms_norm(keys, self.key_norm, config.norm_epsilon)
        if cache is None:
            queries, keys = rotate(queries, step.rotation) * config.query_scale, rotate(keys, step.rotation)
            mixed = step.attend(queries, keys, values, window, None)
        else:
            turn = step.rotation, config.query_scale
            mixed, cache = rotated_attention(
                queries, keys, values, turn, step.positions, cache, window, None, step.reach
            )
        return project(mixed, self.output, inputs=2), cache


@module
class Block:
    attention_norm: jax.Array  # (D,)
    attention: Attention
    attention_post_norm: jax.Array  # (D,)
    mlp_norm: jax.Array  # (D,)
    mlp: MLP
    mlp_post_norm: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "Block":
        norm = weight((config.embed_dim,), ("embed",), init="zeros")
        return Block(norm, Attention.specs(config), norm, norm, MLP.specs(config.embed_dim, config.mlp_dim), norm)

    def __call__(
        self, x: jax.Array, step: Step, window: int | None, cache: KVCache | None, config: Config
    ) -> tuple[jax.Array, KVCache | None]:
        epsilon = config.norm_epsilon
        mixed, cache = self.attention(Normed(x, self.attention_norm, epsilon), step, window, cache, config)
        x = x + rms_norm(mixed, self.attention_post_norm, epsilon)
        return x + rms_norm(self.mlp(Normed(x, self.mlp_norm, epsilon)), self.mlp_post_norm, epsilon), cache


# ----------------------------------------------------------------------------------------- model


@module
class Gemma3:
    embedding: Weight  # (V, D), also the head
    layers: tuple[Block, ...]
    final_norm: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "Gemma3":
        return Gemma3(
            embedding=weight((config.vocab_size, config.embed_dim), ("vocab", "embed")),
            layers=(Block.specs(config),) * config.num_layers,
            final_norm=weight((config.embed_dim,), ("embed",), init="zeros"),
        )

    def __call__(
        self,
        tokens: jax.Array,
        config: Config,
        *,
        positions: jax.Array | None = None,
        segments: jax.Array | None = None,
        cache: tuple[KVCache, ...] | None = None,
    ) -> tuple[jax.Array, tuple[KVCache, ...] | None]:
        """Arguments and results are those of `Gemma`."""
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return self.run(self.embed(tokens, config), steps(config, positions, segments), config, cache)

    def run(
        self, x: jax.Array, steps: tuple[Step, Step], config: Config, cache: tuple[KVCache, ...] | None = None
    ) -> tuple[jax.Array, tuple[KVCache, ...] | None]:
        """`__call__` on what stands in the place of embedded tokens: (B, T, D), pictures among them.

        With a cache, no token's reach goes beyond this call.
        """
        local, whole = steps
        new_cache: list[KVCache] = []
        for index, block in enumerate(self.layers):
            window, held = config.window(index), None if cache is None else cache[index]
            x, kept = block(x, whole if window is None else local, window, held, config)
            if kept is not None:
                new_cache.append(kept)
        return rms_norm(x, self.final_norm, config.norm_epsilon), tuple(new_cache) or None

    def embed(self, tokens: jax.Array, config: Config) -> jax.Array:
        """(B, T, D): rows of the embedding times sqrt(D), rounded as the reference rounds it."""
        rows = lookup(self.embedding, tokens)
        return rows * jnp.asarray(math.sqrt(config.embed_dim), rows.dtype)

    def logits(self, hidden: jax.Array, config: Config) -> jax.Array:
        """(..., D) -> (..., V) in float32, through the tied embedding."""
        return project(hidden, self.embedding).astype(jnp.float32)


# ------------------------------------------------------------------------------------ name table

HUGGING_FACE_NAMES: dict[str, NameTable] = {
    FAMILY: (
        ("embedding", "model.embed_tokens.weight"),
        ("final_norm", "model.norm.weight"),
        ("layers.*.attention_norm", "model.layers.*.input_layernorm.weight"),
        ("layers.*.attention.query", "model.layers.*.self_attn.q_proj.weight"),
        ("layers.*.attention.key", "model.layers.*.self_attn.k_proj.weight"),
        ("layers.*.attention.value", "model.layers.*.self_attn.v_proj.weight"),
        ("layers.*.attention.query_norm", "model.layers.*.self_attn.q_norm.weight"),
        ("layers.*.attention.key_norm", "model.layers.*.self_attn.k_norm.weight"),
        ("layers.*.attention.output", "model.layers.*.self_attn.o_proj.weight"),
        ("layers.*.attention_post_norm", "model.layers.*.post_attention_layernorm.weight"),
        ("layers.*.mlp_norm", "model.layers.*.pre_feedforward_layernorm.weight"),
        ("layers.*.mlp.gate", "model.layers.*.mlp.gate_proj.weight"),
        ("layers.*.mlp.up", "model.layers.*.mlp.up_proj.weight"),
        ("layers.*.mlp.down", "model.layers.*.mlp.down_proj.weight"),
        ("layers.*.mlp_post_norm", "model.layers.*.post_feedforward_layernorm.weight"),
    ),
}
"""As for Gemma."""
