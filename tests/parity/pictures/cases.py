"""What is compared where pictures are read: tiny towers and PaliGemmas, their weights, pixels and tokens. No torch.

Sizes are not round, windows are shorter than a picture's patches, prompts of the two rows differ in length.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
from PIL import Image

from gemwright.core.module import Spec, generator, map_specs
from gemwright.models import siglip
from gemwright.models.gemma import gemma1, gemma2
from gemwright.models.paligemma import Config, PaliGemma
from gemwright.models.siglip import SigLIP
from tests.parity.cases import SHARP

SEEDS = (0, 1, 2)
ROWS = 2
PROMPTS = (7, 4)  # tokens of each row's prompt, BOS and newline included
ANSWERS = (6, 9)  # tokens that follow it
LENGTHS = tuple(
    map(sum, zip(PROMPTS, ANSWERS, strict=True))
)  # both rows end together: the oracle is fed without padding
GREEDY = 24


@dataclass(frozen=True, eq=False)
class Tower:
    """One SigLIP in odd sizes; `oracle` are the arguments of its configuration in transformers."""

    name: str
    config: siglip.Config
    oracle: Mapping[str, Any]


@dataclass(frozen=True, eq=False)
class Pair:
    """One PaliGemma in odd sizes; `decoder` are the arguments of its decoder's configuration in transformers."""

    name: str
    config: Config
    tower: Tower
    decoder: Mapping[str, Any]


def tower_of(name: str, image: int, patch: int, embed: int, layers: int, heads: int, mlp: int) -> Tower:
    oracle = {
        "image_size": image,
        "patch_size": patch,
        "hidden_size": embed,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": mlp,
    }
    return Tower(name, siglip.Config(image, patch, embed, layers, heads, mlp), oracle)


TOWERS = (tower_of("siglip-odd", 21, 7, 30, 3, 5, 46), tower_of("siglip-wide", 20, 5, 28, 2, 2, 60))

_SIZES = {"vocab_size": 67, "embed_dim": 28, "num_layers": 3, "num_heads": 4, "head_dim": 10, "mlp_dim": 44}
_THEIRS = {
    "vocab_size": 67,
    "hidden_size": 28,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "head_dim": 10,
    "intermediate_size": 44,
}

PAIRS = (
    Pair(
        "paligemma",
        Config(TOWERS[0].config, gemma1(num_kv_heads=1, **_SIZES)),
        TOWERS[0],
        {"model_type": "gemma", "num_key_value_heads": 1, **_THEIRS},
    ),
    Pair(  # a window of 5 is shorter than the picture's 16 patches, and than the answer
        "paligemma2",
        Config(TOWERS[1].config, gemma2(window=5, query_scale=13**-0.5, num_kv_heads=2, **_SIZES)),
        TOWERS[1],
        {
            "model_type": "gemma2",
            "num_key_value_heads": 2,
            "sliding_window": 5,
            "query_pre_attn_scalar": 13,
            **_THEIRS,
        },
    ),
)
BY_NAME = {pair.name: pair for pair in PAIRS}
TOWERS_BY_NAME = {tower.name: tower for tower in TOWERS}


_LOUDER = 3


def sharp_weights(specs: Any, seed: int, gain: float = SHARP) -> Any:
    """Float32 weights under which a mistake shows: see `tests.parity.cases.sharp_weights`.

    LayerNorm scales are drawn around 1. What leaves a tower's MLP is drawn larger, or the two forms of GELU,
    which differ by 5e-4 at most, would be told apart by too little.
    """

    def draw(name: str, spec: Spec) -> Any:
        values = generator(seed, name).standard_normal(spec.shape, dtype=np.float32)
        if name == "decoder.final_norm":
            return jnp.asarray(values - np.float32(1))
        if len(spec.shape) == 1 or spec.init != "normal":
            return jnp.asarray(np.float32(0.3) * values + np.float32(spec.init == "ones"))
        louder = _LOUDER if name.endswith("mlp.down") and "decoder" not in name else 1
        return jnp.asarray(values * np.float32(louder * gain / np.sqrt(spec.fan_in)))

    return map_specs(draw, specs)


def tower_weights(tower: Tower, seed: int) -> SigLIP:
    return sharp_weights(SigLIP.specs(tower.config), seed)


def pair_weights(pair: Pair, seed: int, gain: float = SHARP) -> PaliGemma:
    return sharp_weights(PaliGemma.specs(pair.config), seed, gain)


def pixels_of(config: siglip.Config, seed: int) -> np.ndarray:
    """(ROWS, S, S, 3) in [-1, 1]."""
    side = config.image_size
    return generator(seed, f"pixels {side}").uniform(-1, 1, (ROWS, side, side, 3)).astype(np.float32)


def tokens_of(pair: Pair, seed: int, attempt: int = 0) -> np.ndarray:
    """(ROWS, max(LENGTHS)) random tokens: prompts with their answers."""
    draw = generator(seed, f"{pair.name} tokens {attempt}")
    return draw.integers(pair.config.decoder.vocab_size, size=(ROWS, max(LENGTHS)), dtype=np.int32)


def pictures() -> dict[str, tuple[Image.Image, int]]:
    """Pictures with the size each is brought to: smaller, larger, the same, wide, high, one pixel, plain."""
    shapes = {
        "smaller": (61, 47),
        "larger": (9, 13),
        "same": (28, 28),
        "wide": (200, 3),
        "high": (5, 90),
        "dot": (1, 1),
    }
    noise = {name: _noise(name, width, height) for name, (width, height) in shapes.items()}
    return {name: (picture, 28) for name, picture in noise.items()} | {
        "plain": (Image.new("RGB", (40, 30), (255, 1, 128)), 28),
        "four patches of 14": (_noise("big", 300, 180), 56),
    }


def _noise(name: str, width: int, height: int) -> Image.Image:
    levels = generator(0, f"picture {name}").integers(256, size=(height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)
