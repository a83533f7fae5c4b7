"""RecurrentGemma (Griffin): two gated linear recurrences to each layer of local attention.

Whatever the length of a text, a layer keeps as much of it: a state, or the keys and values of a
window. Values: google-deepmind/recurrentgemma `common.py`, `jax/{layers,modules}.py`; De et al.,
arXiv 2402.19427. Norms, softmax, rotations and everything of the recurrence in float32.

Letters: B batch, T tokens, D embedding width, H query heads, G key/value heads, K head size, F width of one MLP
branch, V vocabulary.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp

from gemwright.core.cache import (
    SPARE,
    KVCache,
    LayerCache,
    RecurrentState,
    cached_attention,
    empty_cache,
    empty_state,
)
from gemwright.core.flash_attention import attend_text
from gemwright.core.module import module, weight
from gemwright.core.names import NameTable
from gemwright.core.ops import Rotation, causal, rms_norm, rotate, rotation, soft_cap
from gemwright.core.weights import Weight, gated, lookup, project, project_each
from gemwright.models.recurrence import Linear, Recurrence, both

FAMILY = "recurrent_gemma"

Kind = Literal["recurrent", "attention"]

# ---------------------------------------------------------------------------------------- config


@dataclass(frozen=True)
class Config:
    """All constants of a model.

    Attributes:
      recurrent_dim: width of the recurrence; its gates are `num_heads` blocks.
      window: keys that a token sees, its own included: one more than the reference's number, which counts
        those before it.
      pattern: what each layer mixes tokens by, repeated over the layers.
      taps: tokens that the convolution sees, the current one included.
      max_positions: a bound of ours, up to which rotations are exact enough; the models were trained at 8192.
    """

    vocab_size: int
    embed_dim: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    mlp_dim: int
    recurrent_dim: int
    window: int = 2049
    pattern: tuple[Kind, ...] = ("recurrent", "recurrent", "attention")
    taps: int = 4
    final_cap: float | None = 30.0
    rope_base: float = 10_000.0
    norm_epsilon: float = 1e-6
    max_positions: int = 1 << 20
    family: str = FAMILY

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ValueError(f"num_heads {self.num_heads} is no multiple of num_kv_heads {self.num_kv_heads}")
        if self.recurrent_dim % self.num_heads:
            raise ValueError(f"recurrent_dim {self.recurrent_dim} is no multiple of num_heads {self.num_heads}")
        if self.head_dim % 4:
            raise ValueError(f"head_dim {self.head_dim} is no multiple of 4; rotary embedding pairs halves of a half")

    def kind(self, layer: int) -> Kind:
        return self.pattern[layer % len(self.pattern)]


PRESETS: dict[str, Config] = {
    "recurrentgemma-2b": Config(
        vocab_size=256_000,
        embed_dim=2560,
        num_layers=26,
        num_heads=10,
        num_kv_heads=1,
        head_dim=256,
        mlp_dim=7680,
        recurrent_dim=2560,
    ),
    "recurrentgemma-9b": Config(
        vocab_size=256_000,
        embed_dim=4096,
        num_layers=38,
        num_heads=16,
        num_kv_heads=1,
        head_dim=256,
        mlp_dim=12_288,
        recurrent_dim=4096,
    ),
}

# ----------------------------------------------------------------------------------------- parts


@dataclass(frozen=True)
class Step:
    """What every layer of one call shares.

    Attributes:
      positions: (B, T); -1 marks padding, which stands after a row's tokens.
      rotation: of these positions, for the first half of each head.
      segments: (B, T) of packed documents that do not see each other, or None.
    """

    positions: jax.Array
    rotation: Rotation
    segments: jax.Array | None = None

    @staticmethod
    def of(config: Config, positions: jax.Array, segments: jax.Array | None = None) -> "Step":
        return Step(positions, rotation(positions, config.head_dim // 2, config.rope_base), segments)

    def visible(self, window: int | None) -> jax.Array:
        seen = causal(self.positions, self.positions, window)
        if self.segments is None:
            return seen
        return seen & (self.segments[:, :, None] == self.segments[:, None, :])


@module
class Attention:
    """Local, with rotary embedding on the first half of each head."""

    query: Weight  # (H, K, D)
    key: Weight  # (G, K, D)
    value: Weight  # (G, K, D)
    output: Linear  # (D, H, K)

    @staticmethod
    def specs(config: Config) -> "Attention":
        d, h, g, k = config.embed_dim, config.num_heads, config.num_kv_heads, config.head_dim
        return Attention(
            query=weight((h, k, d), ("heads", "head_dim", "embed")),
            key=weight((g, k, d), ("kv_heads", "head_dim", "embed")),
            value=weight((g, k, d), ("kv_heads", "head_dim", "embed")),
            output=Linear.specs((d, h, k), ("embed", "heads", "head_dim"), inputs=2),
        )

    def __call__(
        self, x: jax.Array, step: Step, cache: KVCache | None, config: Config
    ) -> tuple[jax.Array, KVCache | None]:
        queries, keys, values = project_each(x, (self.query, self.key, self.value))
        queries = rotate_half(queries, step.rotation) * config.head_dim**-0.5
        keys = rotate_half(keys, step.rotation)
        if cache is None:
            places = step.positions, step.segments
            mixed = attend_text(queries, keys, values, places, step.visible, config.window, None)
        else:
            mixed, cache = cached_attention(queries, keys, values, step.positions, cache, config.window, None)
        return self.output(mixed, inputs=2), cache


def rotate_half(x: jax.Array, by: Rotation) -> jax.Array:
    """`rotate` of the first half of each head."""
    turned, kept = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([rotate(turned, by), kept], axis=-1)


@module
class MLP:
    gate: Linear  # (F, D)
    up: Linear  # (F, D)
    down: Linear  # (D, F)

    @staticmethod
    def specs(config: Config) -> "MLP":
        d, f = config.embed_dim, config.mlp_dim
        wide = Linear.specs((f, d), ("mlp", "embed"))
        return MLP(gate=wide, up=wide, down=Linear.specs((d, f), ("embed", "mlp")))

    def __call__(self, x: jax.Array) -> jax.Array:
        gate, up = both(x, self.gate, self.up)
        return self.down(gated(gate, up))


@module
class Block:
    mixer_norm: jax.Array  # (D,)
    recurrence: Recurrence | None  # this or attention
    attention: Attention | None
    mlp_norm: jax.Array  # (D,)
    mlp: MLP

    @staticmethod
    def specs(config: Config, kind: Kind) -> "Block":
        norm = weight((config.embed_dim,), ("embed",), init="zeros")
        recurrence = (
            Recurrence.specs(config.embed_dim, config.recurrent_dim, config.num_heads, config.taps)
            if kind == "recurrent"
            else None
        )
        attention = Attention.specs(config) if kind == "attention" else None
        return Block(norm, recurrence, attention, norm, MLP.specs(config))

    def __call__(
        self, x: jax.Array, step: Step, cache: LayerCache | None, config: Config
    ) -> tuple[jax.Array, LayerCache | None]:
        mixed, cache = self._mix(rms_norm(x, self.mixer_norm, config.norm_epsilon), step, cache, config)
        x = x + mixed
        return x + self.mlp(rms_norm(x, self.mlp_norm, config.norm_epsilon)), cache

    def _mix(
        self, x: jax.Array, step: Step, cache: LayerCache | None, config: Config
    ) -> tuple[jax.Array, LayerCache | None]:
        if self.recurrence is not None:
            assert not isinstance(cache, KVCache)
            return self.recurrence(x, step.positions, step.segments, cache)
        assert self.attention is not None
        assert not isinstance(cache, RecurrentState)
        return self.attention(x, step, cache, config)


# ----------------------------------------------------------------------------------------- model


@module
class Griffin:
    embedding: Weight  # (V, D), also the head
    layers: tuple[Block, ...]
    final_norm: jax.Array  # (D,)

    @staticmethod
    def specs(config: Config) -> "Griffin":
        return Griffin(
            embedding=weight((config.vocab_size, config.embed_dim), ("vocab", "embed")),
            layers=tuple(Block.specs(config, config.kind(layer)) for layer in range(config.num_layers)),
            final_norm=weight((config.embed_dim,), ("embed",), init="zeros"),
        )

    def __call__(
        self,
        tokens: jax.Array,
        config: Config,
        *,
        positions: jax.Array | None = None,
        segments: jax.Array | None = None,
        cache: Sequence[LayerCache] | None = None,
    ) -> tuple[jax.Array, tuple[LayerCache, ...] | None]:
        """The hidden states from which `logits` reads the next token.

        Args:
          tokens: (B, T) integers.
          config: the constants the weights were made for.
          positions: (B, T), 0 to T-1 unless given; a document begins at 0. -1 marks padding, which with a cache
            stands after a row's tokens.
          segments: (B, T); tokens of different segments do not see each other. Not with a cache.
          cache: one a layer; None reads these tokens alone.

        Returns:
          (B, T, D) after the final norm, and the cache with these tokens in it.
        """
        if positions is None:
            positions = jnp.broadcast_to(jnp.arange(tokens.shape[1]), tokens.shape)
        elif cache is None:  # the convolution looks at neighbours: padding between them must go
            return self._padding_last(tokens, positions, segments, config), None
        return self._read(tokens, Step.of(config, positions, segments), config, cache)

    def _padding_last(
        self, tokens: jax.Array, positions: jax.Array, segments: jax.Array | None, config: Config
    ) -> jax.Array:
        order = jnp.argsort(positions < 0, axis=1, stable=True)

        def ordered(part: jax.Array) -> jax.Array:
            return jnp.take_along_axis(part, order, axis=1)

        step = Step.of(config, ordered(positions), None if segments is None else ordered(segments))
        hidden, _ = self._read(ordered(tokens), step, config, None)
        return jnp.take_along_axis(hidden, jnp.argsort(order, axis=1)[..., None], axis=1)

    def _read(
        self, tokens: jax.Array, step: Step, config: Config, cache: Sequence[LayerCache] | None
    ) -> tuple[jax.Array, tuple[LayerCache, ...] | None]:
        x = self.embed(tokens, config)
        new_cache: list[LayerCache] = []
        for index, block in enumerate(self.layers):
            x, kept = block(x, step, None if cache is None else cache[index], config)
            if kept is not None:
                new_cache.append(kept)
        return rms_norm(x, self.final_norm, config.norm_epsilon), tuple(new_cache) or None

    def embed(self, tokens: jax.Array, config: Config) -> jax.Array:
        """(B, T, D): rows of the embedding times sqrt(D), which is rounded to bfloat16 whatever the weights are."""
        rows = lookup(self.embedding, tokens)
        return rows * jnp.asarray(math.sqrt(config.embed_dim), jnp.bfloat16).astype(rows.dtype)

    def logits(self, hidden: jax.Array, config: Config) -> jax.Array:
        """(..., D) -> (..., V) in float32, through the tied embedding and the final cap."""
        return soft_cap(project(hidden, self.embedding).astype(jnp.float32), config.final_cap)


def new_cache(
    config: Config, rows: int, capacity: int, dtype: jnp.dtype, bits: int | None = None
) -> tuple[LayerCache, ...]:
    """An empty cache for rows of up to `capacity` tokens, one a layer; `bits` are those of keys and values."""
    slots = min(capacity, config.window + SPARE)

    def of_layer(layer: int) -> LayerCache:
        if config.kind(layer) == "recurrent":
            return empty_state(rows, config.recurrent_dim, config.taps, dtype)
        return empty_cache(rows, slots, config.num_kv_heads, config.head_dim, dtype, bits)

    return tuple(map(of_layer, range(config.num_layers)))


def goes_back_from(config: Config) -> int:
    """No row can be cut: a recurrent state does not tell what it was before."""
    return 0


# ------------------------------------------------------------------------------------ name table

_NAMES: NameTable = (
    ("embedding", "model.embed_tokens.weight"),
    ("final_norm", "model.final_norm.weight"),
    ("layers.*.mixer_norm", "model.layers.*.temporal_pre_norm.weight"),
    ("layers.*.recurrence.gate.weight", "model.layers.*.temporal_block.linear_y.weight"),
    ("layers.*.recurrence.gate.bias", "model.layers.*.temporal_block.linear_y.bias"),
    ("layers.*.recurrence.input.weight", "model.layers.*.temporal_block.linear_x.weight"),
    ("layers.*.recurrence.input.bias", "model.layers.*.temporal_block.linear_x.bias"),
    ("layers.*.recurrence.conv_weight", "model.layers.*.temporal_block.conv_1d.weight"),
    ("layers.*.recurrence.conv_bias", "model.layers.*.temporal_block.conv_1d.bias"),
    ("layers.*.recurrence.input_gate", "model.layers.*.temporal_block.rg_lru.input_gate_weight"),
    ("layers.*.recurrence.input_gate_bias", "model.layers.*.temporal_block.rg_lru.input_gate_bias"),
    ("layers.*.recurrence.decay_gate", "model.layers.*.temporal_block.rg_lru.recurrent_gate_weight"),
    ("layers.*.recurrence.decay_gate_bias", "model.layers.*.temporal_block.rg_lru.recurrent_gate_bias"),
    ("layers.*.recurrence.decay", "model.layers.*.temporal_block.rg_lru.recurrent_param"),
    ("layers.*.recurrence.output.weight", "model.layers.*.temporal_block.linear_out.weight"),
    ("layers.*.recurrence.output.bias", "model.layers.*.temporal_block.linear_out.bias"),
    ("layers.*.attention.query", "model.layers.*.temporal_block.q_proj.weight"),
    ("layers.*.attention.key", "model.layers.*.temporal_block.k_proj.weight"),
    ("layers.*.attention.value", "model.layers.*.temporal_block.v_proj.weight"),
    ("layers.*.attention.output.weight", "model.layers.*.temporal_block.o_proj.weight"),
    ("layers.*.attention.output.bias", "model.layers.*.temporal_block.o_proj.bias"),
    ("layers.*.mlp_norm", "model.layers.*.channel_pre_norm.weight"),
    ("layers.*.mlp.gate.weight", "model.layers.*.mlp_block.gate_proj.weight"),
    ("layers.*.mlp.gate.bias", "model.layers.*.mlp_block.gate_proj.bias"),
    ("layers.*.mlp.up.weight", "model.layers.*.mlp_block.up_proj.weight"),
    ("layers.*.mlp.up.bias", "model.layers.*.mlp_block.up_proj.bias"),
    ("layers.*.mlp.down.weight", "model.layers.*.mlp_block.down_proj.weight"),
    ("layers.*.mlp.down.bias", "model.layers.*.mlp_block.down_proj.bias"),
)

HUGGING_FACE_NAMES: dict[str, NameTable] = {FAMILY: _NAMES}
"""As for Gemma; what no product contracts is stored in the shape that it has here."""
