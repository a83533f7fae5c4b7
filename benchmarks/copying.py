"""Weights that copy: given a text that occurs before, the model goes on as that place did, with some tokens replaced.

Made by hand in a Gemma 1 with heads of 256. The first layer's heads look 1 to 7 tokens back and write what stands there
beside the token itself. The second layer looks for the place that agrees in most of the 7 tokens before it, of equal
ones for that at a given distance, and writes the token that stands there as the next one. All other matrices compute
in full and add nothing. With its rotation slowed down, a head has pairs that turn with the distance and pairs that do
not turn at all.
"""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from gemwright.bench.random_model import random_packed
from gemwright.core.packed import Packed
from gemwright.kernels.packed_product import GROUP, TILE, pack
from gemwright.models.gemma import Config, Gemma

Array = np.ndarray[Any, Any]

CODE = 224  # signs that stand for a token, in the first of eight blocks of 256; then 1; then marks of replaced tokens
BLOCK, BACK = 256, 7
TURN = 0.6  # each pair of a head turns this much slower than the one before
TURNING, STILL = 16, 20  # pairs up to here tell positions apart; from here on they do not turn
_SIZE = 0.1  # of an embedding's entries
_FULL = 7  # the code of the largest value of a group


def copying_config(config: Config) -> Config:
    if (config.embed_dim, config.head_dim, config.num_heads) != (8 * BLOCK, BLOCK, 8):
        raise ValueError("copying weights are made for 8 heads of 256 and a width of 2048")
    return replace(config, rope_base=TURN ** -(BLOCK / 2))


def copying_weights(config: Config, replaced: dict[int, int], distance: int, seed: int = 0) -> Gemma:
    """4-bit weights of a `copying_config`.

    Args:
      replaced: tokens that are not copied, and what is written for them.
      distance: from a token to its copy.
    """
    draw = np.random.default_rng(seed)
    idle = [_silenced(block) for block in random_packed(Gemma.specs(config), 4).layers]
    signs = (draw.integers(0, 2, (config.vocab_size, CODE)) * 2 - 1).astype(np.int8)
    embedding = np.zeros((config.vocab_size, config.embed_dim), np.int8)
    embedding[:, :CODE], embedding[:, CODE] = _FULL * signs, _FULL
    embedding[list(replaced), CODE + 1 + np.arange(len(replaced))] = _FULL
    change = signs[list(replaced.values())].astype(np.float32) - signs[list(replaced)]
    first = replace(idle[0], attention=_look_back(config))
    second = replace(idle[1], attention=_look_up(config, draw, change, distance - 1))
    scale = np.full((config.vocab_size, config.embed_dim // GROUP), _SIZE / _FULL, np.float16)
    packed = Packed(*_pack_in_parts(embedding, scale), (config.vocab_size, config.embed_dim))
    return Gemma(packed, (first, second, *idle[2:]), jnp.zeros(config.embed_dim, jnp.bfloat16))


def _silenced(block: Any) -> Any:
    def silent(weight: Packed) -> Packed:
        return replace(weight, scales=jnp.zeros_like(weight.scales))

    attention = replace(block.attention, output=silent(block.attention.output))
    return replace(block, attention=attention, mlp=replace(block.mlp, down=silent(block.mlp.down)))


def _look_back(config: Config) -> Any:
    """Head j looks j + 1 tokens back; block j + 1 of the stream becomes the token there."""
    query, key, value, output = _empty(config)
    for head in range(BACK):
        _prefer_distance(query[head * BLOCK : (head + 1) * BLOCK], key, head + 1, strength=6.0)
        place = np.arange(BLOCK)
        output[(head + 1) * BLOCK + place, head * BLOCK + place] = 1.5
    np.fill_diagonal(value[:, :BLOCK], 1.0)
    return _attention(config, query, key, value, output)


def _prefer_distance(query: Array, key: Array, distance: int, strength: float) -> None:
    """Scores of one head that are largest at a distance, from the 1 that each token carries."""
    angles = distance * TURN ** np.arange(TURNING)
    key[:TURNING, CODE] = strength
    query[:TURNING, CODE] = strength * np.cos(angles)
    query[BLOCK // 2 : BLOCK // 2 + TURNING, CODE] = -strength * np.sin(angles)


def _look_up(config: Config, draw: np.random.Generator, change: Array, distance: int) -> Any:
    """The first head looks for the place whose 7 tokens before are the last 7; the first block becomes its token."""
    query, key, value, output = _empty(config)
    still = np.r_[STILL : BLOCK // 2, BLOCK // 2 + STILL : BLOCK]
    for back in range(BACK):
        mixture = 0.087 * (draw.integers(0, 2, (len(still), CODE)) * 2 - 1)
        query[still, back * BLOCK : back * BLOCK + CODE] = mixture
        key[still, (back + 1) * BLOCK : (back + 1) * BLOCK + CODE] = mixture
    _prefer_distance(query[:BLOCK], key, distance, strength=6.0)
    np.fill_diagonal(value[:, :BLOCK], 1.0)
    place = np.arange(CODE)
    output[place, place] = 42.0
    output[place[:, None], CODE + 1 + np.arange(len(change))] = 42.0 * change.T
    return _attention(config, query, key, value, output)


def _empty(config: Config) -> tuple[Array, Array, Array, Array]:
    width, heads = config.embed_dim, config.num_heads * BLOCK
    shapes = (heads, width), (BLOCK, width), (BLOCK, width), (width, heads)
    query, key, value, output = (np.zeros(shape, np.float32) for shape in shapes)
    return query, key, value, output


def _attention(config: Config, *matrices: Array) -> Any:
    attention = Gemma.specs(config).layers[0].attention
    specs = attention.query, attention.key, attention.value, attention.output
    query, key, value, output = (_packed(m, spec.shape) for m, spec in zip(matrices, specs, strict=True))
    return replace(attention, query=query, key=key, value=value, output=output)


def _packed(matrix: Array, shape: tuple[int, ...]) -> Packed:
    """Groups hold zeros and values of one size, or a single value: 4 bits keep them as they are."""
    groups = matrix.reshape(len(matrix), -1, GROUP)
    scales = (np.abs(groups).max(axis=-1) / _FULL).astype(np.float16)
    wide = np.where(scales > 0, scales, 1).astype(np.float32)[..., None]
    codes = np.rint(groups / wide).astype(np.int8).reshape(matrix.shape)
    packed, packed_scales = pack(codes, scales, 4)
    return Packed(jnp.asarray(packed), jnp.asarray(packed_scales), shape)


def _pack_in_parts(codes: Array, scales: Array, rows: int = 1024 * TILE) -> tuple[jax.Array, jax.Array]:
    parts = [pack(codes[at : at + rows], scales[at : at + rows], 4) for at in range(0, len(codes), rows)]
    packed, packed_scales = zip(*parts, strict=True)
    return jnp.asarray(np.concatenate(packed)), jnp.asarray(np.concatenate(packed_scales))
