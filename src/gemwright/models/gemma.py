"""Gemma 1, CodeGemma and Gemma 2: decoders with rotary, grouped-query attention and gated MLPs.

Gemma 2 differs by data alone: soft caps, a sliding window in every other layer, norms after each
branch. Values: google-deepmind/gemma `gemma/gm/nn/_gemma.py`, google/gemma_pytorch `gemma/config.py`.
Numerics are those of gemma_pytorch and Hugging Face: norms, softmax and rotations in float32.

Letters: B batch, T tokens, D embedding width, H query heads, G key/value heads, K head size,
F width of one MLP branch, V vocabulary.
"""

import math
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from gemwright.core.cache import SPARE, KVCache, empty_cache, keep, rotated_attention
from gemwright.core.flash_attention import attend_text
from gemwright.core.module import module, weight
from gemwright.core.names import NameTable
from gemwright.core.ops import Normed, Rotation, attend, causal, rms_norm, rotate, rotation, soft_cap
from gemwright.core.weights import Weight, lookup, project, project_each, project_gated

# ---------------------------------------------------------------------------------------- config


@dataclass(frozen=True)
class Config:
    """All constants of a model.

    Attributes:
      windows: tokens seen by each layer, its pattern repeated over the layers; None sees all.
      query_scale: factor on the rotated queries.
      attention_cap, final_cap: soft caps on the scores and on the logits.
      post_norms: whether each branch is normed again before it is added.
      max_positions: the longest context the model was made for.
    """

    family: str
    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    query_scale: float
    windows: tuple[int | None, ...] = (None,)
    attention_cap: float | None = None
    final_cap: float | None = None
    post_norms: bool = False
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    max_positions: int = 8192

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_dim % 2:
            raise ValueError(f"head_dim {self.head_dim} is odd; rotary embedding pairs its halves")

    def window(self, layer: int) -> int | None:
        return self.windows[layer % len(self.windows)]


def gemma1(**sizes: Any) -> Config:
    """A Gemma 1 of any size. `sizes` are the integer fields of `Config`."""
    return Config(family="gemma", query_scale=sizes["head_dim"] ** -0.5, **sizes)


def gemma2(window: int = 4096, query_scale: float | None = None, **sizes: Any) -> Config:
    """A Gemma 2 of any size: even layers see a window, odd ones everything."""
    return Config(
        family="gemma2",
        query_scale=query_scale or sizes["head_dim"] ** -0.5,
        windows=(window, None),
        attention_cap=50.0,
        final_cap=30.0,
        post_norms=True,
        **sizes,
    )


_GEMMA_2B = gemma1(
    vocab_size=256_000, embed_dim=2048, num_layers=18, num_heads=8, num_kv_heads=1, head_dim=256, mlp_dim=16_384
)
_GEMMA_7B = gemma1(
    vocab_size=256_000, embed_dim=3072, num_layers=28, num_heads=16, num_kv_heads=16, head_dim=256, mlp_dim=24_576
)

PRESETS: dict[str, Config] = {
    "gemma-2b": _GEMMA_2B,
    "gemma-7b": _GEMMA_7B,
    "codegemma-2b": _GEMMA_2B,
    "codegemma-7b": _GEMMA_7B,
    "gemma2-2b": gemma2(
        vocab_size=256_000, embed_dim=2304, num_layers=26, num_heads=8, num_kv_heads=4, head_dim=256, mlp_dim=9216
    ),
    "gemma2-9b": gemma2(
        vocab_size=256_000, embed_dim=3584, num_layers=42, num_heads=16, num_kv_heads=8, head_dim=256, mlp_dim=14_336
    ),
    "gemma2-27b": gemma2(
        vocab_size=256_000,
        embed_dim=4608,
        num_layers=46,
        num_heads=32,
        num_kv_heads=16,
        head_dim=128,
        mlp_dim=36_864,
        query_scale=(4608 / 32) ** -0.5,  # the width a head would have, not the one it has
    ),
}

# ----------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class Step:
    """What every layer of one call shares.

    Attributes:
      positions: (B, T); -1 marks padding, which stands before or after a document's tokens.
      rotation: of these positions.
      segments: (B, T) of packed documents that do not see each other, or None.
      prefix: (B,) positions before it all see each other, whatever the window; None where all is causal.
      reach: (B, T) the last position that each token sees, from the beginning of its window; None is its own.
      both_ways: a token sees those after it too, within the window on either side.
    """

    positions: jax.Array
    rotation: Rotation
    segments: jax.Array | None = None
    prefix: jax.Array | None = None
    reach: jax.Array | None = None
    both_ways: bool = False

    @staticmethod
    def of(
        config: Config, positions: jax.Array, segments: jax.Array | None = None, prefix: jax.Array | None = None
    ) -> "Step":
        return Step(positions, rotation(positions, config.head_dim, config.rope_base), segments, prefix)

    @property
    def in_order(self) -> bool:
        """Whether no token sees one after it."""
        return self.prefix is None and self.reach is None and not self.both_ways

    def attend(
        self, queries: jax.Array, keys: jax.Array, values: jax.Array, window: int | None, cap: float | None
    ) -> jax.Array:
        """Attention among these tokens."""
        if self.in_order:
            return attend_text(queries, keys, values, (self.positions, self.segments), self.visible, window, cap)
        return attend(queries, keys, values, self.visible(window), cap)

    def visible(self, window: int | None) -> jax.Array:
        """(B, T, T): whether a token sees another."""
        seen = causal(self.positions, self.positions, window, self.reach)
        if self.both_ways:
            # Whoever sees is seen, but for padding, whose queries nobody reads.
            seen = seen | seen.swapaxes(1, 2)
        if self.prefix is not None:
            inside = (self.positions >= 0) & (self.positions < self.prefix[:, None])
            seen = seen | (inside[:, :, None] & inside[:, None, :])
        if self.segments is None:
            return seen
        return seen & (self.segments[:, :, None] == self.segments[:, None, :])


@module
class Attention:
    query: Weight  # (H, K, D)
    key: Weight  # (G, K, D)
    value: Weight  # (G, K, D)
    output: Weight  # (D, H, K)

    @staticmethod
    def specs(config: Config) -> "Attention":
        d, h, g, k = config.embed_dim, config.num_heads, config.num_kv_heads, config.head_dim
        return Attention(
            query=weight((h, k, d), ("heads", "head_dim", "embed")),
            key=weight((g, k, d), ("kv_heads", "head_dim", "embed")),
            value=weight((g, k, d), ("kv_heads", "head_dim", "embed")),
            output=weight((d, h, k), ("embed", "heads", "head_dim"), inputs=2),
        )

    def __call__(
        self,
        x: jax.Array | Normed,
        step: Step,
        window: int | None,
        cache: KVCache | None,
        config: Config,
        plus: jax.Array | None = None,
    ) -> tuple[jax.Array, KVCache | None]:
        """What attention adds to `plus`, and the cache."""
        queries, keys, values = project_each(x, (self.query, self.key, self.value))
        turn, cap = (step.rotation, config.query_scale), config.attention_cap
        if cache is not None and step.in_order:
            mixed, cache = rotated_attention(queries, keys, values, turn, step.positions, cache, window, cap)
        else:
            queries, keys = rotate(queries, step.rotation) * config.query_scale, rotate(keys, step.rotation)
            mixed = step.attend(queries, keys, values, window, cap)
            cache = None if cache is None else keep(keys, values, step.positions, cache)
        return project(mixed, self.output, inputs=2, plus=plus), cache


@module
class MLP:
    gate: Weight  # (F, D)
    up: Weight  # (F, D)
    down: Weight  # (D, F)

    @staticmethod
    def specs(d: int, f: int) -> "MLP":
        return MLP(
            gate=weight((f, d), ("mlp", "embed")),
            up=weight((f, d), ("mlp", "embed")),
            down=weight((d, f), ("embed", "mlp")),
        )

    def __call__(self, x: jax.Array | Normed, plus: jax.Array | None = None) -> jax.Array:
        return project(project_gated(x, self.gate, self.up), self.down, plus=plus)


@module
class Block:
    attention_norm: jax.Array  # (D,)
    attention: Attention
    attention_post_norm: jax.Array | None  # (D,), Gemma 2
    mlp_norm: jax.Array  # (D,)
    mlp: MLP
    mlp_post_norm: jax.Array | None  # (D,), Gemma 2

    @staticmethod
    def specs(config: Config) -> "Block":
        norm = weight((config.embed_dim,), ("embed",), init="zeros")
        post_norm = norm if config.post_norms else None
        return Block(
            norm, Attention.specs(config), post_norm, norm, MLP.specs(config.embed_dim, config.mlp_dim), post_norm
        )

    def __call__(
        self, x: jax.Array, step: Step, window: int | None, cache: KVCache | None, config: Config
    ) -> tuple[jax.Array, KVCache | None]:
        epsilon = config.norm_epsilon
        first, second = self.attention_post_norm, self.mlp_post_norm
        normed = Normed(x, self.attention_norm, epsilon)
        mixed, cache = self.attention(normed, step, window, cache, config, plus=x if first is None else None)
        x = mixed if first is None else x + rms_norm(mixed, first, epsilon)
        mixed = self.mlp(Normed(x, self.mlp_norm, epsilon), plus=x if second is None else None)
        return mixed if second is None else x + rms_norm(mixed, second, epsilon), cache


# ----------------------------------------------------------------------------------------- model


@module
class Gemma:
    embedding: Weight  # (V, D), also the head
    layers: tuple[Block, ...]
    final_norm: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "Gemma":
        return Gemma(
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
        """The hidden states from which `logits` reads the next token.

        Args:
          tokens: (B, T) integers.
          config: the constants the weights were made for.
          positions: (B, T), 0 to T-1 unless given; -1 marks padding, which with a cache stands after a row's tokens.
          segments: (B, T); tokens of different segments do not see each other. Not with a cache.
          cache: one a layer; None attends to these tokens alone.

        Returns:
          (B, T, D) after the final norm, and the cache with these tokens in it.
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        return self.run(self.embed(tokens, config), Step.of(config, positions, segments), config, cache)

    def run(
        self, x: jax.Array, step: Step, config: Config, cache: tuple[KVCache, ...] | None = None
    ) -> tuple[jax.Array, tuple[KVCache, ...] | None]:
        """`__call__` on what stands in the place of embedded tokens: (B, T, D), pictures among them.

        With a cache, a step that has a prefix holds all of it and is the first of its sequences.
        """
        new_cache: list[KVCache] = []
        for index, block in enumerate(self.layers):
            x, kept = block(x, step, config.window(index), None if cache is None else cache[index], config)
            if kept is not None:
                new_cache.append(kept)
        return rms_norm(x, self.final_norm, config.norm_epsilon), tuple(new_cache) or None

    def embed(self, tokens: jax.Array, config: Config) -> jax.Array:
        """(B, T, D): rows of the embedding times sqrt(D), rounded as the reference rounds it."""
        rows = lookup(self.embedding, tokens)
        return rows * jnp.asarray(math.sqrt(config.embed_dim), rows.dtype)

    def logits(self, hidden: jax.Array, config: Config) -> jax.Array:
        """(..., D) -> (..., V) in float32, through the tied embedding and the final cap."""
        return soft_cap(project(hidden, self.embedding).astype(jnp.float32), config.final_cap)


def cache_slots(config: Config, layer: int, capacity: int) -> int:
    """Slots of a layer's cache for sequences of up to `capacity` tokens: a window and some to spare are enough."""
    window = config.window(layer)
    return capacity if window is None else min(capacity, window + SPARE)


def new_cache(
    config: Config, rows: int, capacity: int, dtype: jnp.dtype, bits: int | None = None
) -> tuple[KVCache, ...]:
    """An empty cache for rows of up to `capacity` tokens, one a layer."""
    slots = [cache_slots(config, layer, capacity) for layer in range(config.num_layers)]
    return tuple(empty_cache(rows, size, config.num_kv_heads, config.head_dim, dtype, bits) for size in slots)


def goes_back_from(config: Config) -> int:
    """The longest row that can be cut anywhere: in a longer one some layer's ring may have turned."""
    return min((window for window in config.windows if window is not None), default=config.max_positions)


# ------------------------------------------------------------------------------------ name table

_SHARED_NAMES: NameTable = (
    ("embedding", "model.embed_tokens.weight"),
    ("final_norm", "model.norm.weight"),
    ("layers.*.attention_norm", "model.layers.*.input_layernorm.weight"),
    ("layers.*.attention.query", "model.layers.*.self_attn.q_proj.weight"),
    ("layers.*.attention.key", "model.layers.*.self_attn.k_proj.weight"),
    ("layers.*.attention.value", "model.layers.*.self_attn.v_proj.weight"),
    ("layers.*.attention.output", "model.layers.*.self_attn.o_proj.weight"),
    ("layers.*.mlp.gate", "model.layers.*.mlp.gate_proj.weight"),
    ("layers.*.mlp.up", "model.layers.*.mlp.up_proj.weight"),
    ("layers.*.mlp.down", "model.layers.*.mlp.down_proj.weight"),
)

HUGGING_FACE_NAMES: dict[str, NameTable] = {
    "gemma": (
        *_SHARED_NAMES,
        ("layers.*.mlp_norm", "model.layers.*.post_attention_layernorm.weight"),  # after attention, before the MLP
    ),
    "gemma2": (
        *_SHARED_NAMES,
        ("layers.*.attention_post_norm", "model.layers.*.post_attention_layernorm.weight"),
        ("layers.*.mlp_norm", "model.layers.*.pre_feedforward_layernorm.weight"),
        ("layers.*.mlp_post_norm", "model.layers.*.post_feedforward_layernorm.weight"),
    ),
}
"""By family: a weight's name here, and in a Hugging Face checkpoint. Both are row-major (out, in); ours only
keeps heads apart, so that a stored matrix is the weight reshaped."""
