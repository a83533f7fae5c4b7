"""What is compared where pictures stand between texts: tiny Gemma 3 models that see, their rows. No torch.

One model's window is shorter than a picture, the other's longer; rows differ in pictures and in length.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gemwright.core.module import generator
from gemwright.models import gemma3, siglip
from gemwright.models.gemma3_vision import Config, Gemma3Vision
from tests.parity.cases import SHARP
from tests.parity.pictures.cases import sharp_weights, tower_of

LAYOUTS: tuple[tuple[int, ...], ...] = ((5, 3, 8), (2, 9), (1, 2, 1, 6))
"""Of each row: tokens of text before, between and behind its pictures."""
PICTURES = tuple(len(layout) - 1 for layout in LAYOUTS)
ROWS = len(LAYOUTS)
ANSWER = 4  # tokens at the end of a row that are read one by one
GREEDY = 16
KEPT = slice(1, None, 3)  # positions whose logits the fixtures store, soft tokens among them


@dataclass(frozen=True, eq=False)
class Family:
    """One model in odd sizes; `tower` and `decoder` are the arguments of its configurations in transformers."""

    name: str
    config: Config
    tower: Mapping[str, Any]
    decoder: Mapping[str, Any]

    @property
    def lengths(self) -> list[int]:
        """Of each row, soft tokens among them."""
        return [sum(layout) + (len(layout) - 1) * self.config.picture_tokens for layout in LAYOUTS]


def _family(
    name: str, tower: tuple[int, int], picture_tokens: int, window: int, factor: float, kv_heads: int
) -> Family:
    seeing = tower_of(name, *tower, embed=30, layers=2, heads=3, mlp=46)
    kinds = ["sliding_attention", "full_attention", "sliding_attention"]
    decoder = gemma3.Config(
        vocab_size=67,
        embed_dim=28,
        num_layers=3,
        num_heads=4,
        num_kv_heads=kv_heads,
        head_dim=10,
        mlp_dim=44,
        query_scale=13**-0.5,
        windows=(window, None),
        rope_factor=factor,
    )
    theirs = {
        "model_type": "gemma3_text",
        "vocab_size": 67,
        "hidden_size": 28,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": kv_heads,
        "head_dim": 10,
        "intermediate_size": 44,
        "query_pre_attn_scalar": 13,
        "sliding_window": window,
        "layer_types": kinds,
        "rope_parameters": {
            "full_attention": {"rope_type": "linear", "factor": factor, "rope_theta": 1_000_000.0},
            "sliding_attention": {"rope_type": "default", "rope_theta": 10_000.0},
        },
    }
    return Family(name, Config(seeing.config, decoder, picture_tokens), seeing.oracle, theirs)


FAMILIES = (
    _family("gemma3-vision", (24, 4), picture_tokens=9, window=5, factor=8.0, kv_heads=2),
    _family("gemma3-vision-wide", (20, 5), picture_tokens=4, window=7, factor=1.0, kv_heads=1),
)
BY_NAME = {family.name: family for family in FAMILIES}


def weights_of(family: Family, seed: int, gain: float = SHARP) -> Gemma3Vision:
    return sharp_weights(Gemma3Vision.specs(family.config), seed, gain)


def pixels_of(config: siglip.Config, seed: int) -> np.ndarray:
    """(pictures of all rows, S, S, 3) in [-1, 1], row by row."""
    side = config.image_size
    return generator(seed, f"interleaved {side}").uniform(-1, 1, (sum(PICTURES), side, side, 3)).astype(np.float32)


def tokens_of(family: Family, seed: int, attempt: int = 0) -> np.ndarray:
    """(ROWS, longest) random tokens; those at soft tokens are never read."""
    draw = generator(seed, f"{family.name} tokens {attempt}")
    return draw.integers(family.config.vocab_size, size=(ROWS, max(family.lengths)), dtype=np.int32)


def places_of(family: Family) -> np.ndarray:
    """(ROWS, longest) as `Gemma3Vision.read` takes them."""
    size, rows, picture = family.config.picture_tokens, list[list[int]](), 0
    for layout in LAYOUTS:
        row: list[int] = []
        for text in layout[:-1]:
            row += [-1] * text + list(range(picture * size, (picture + 1) * size))
            picture += 1
        rows.append(row + [-1] * layout[-1])
    return padded(rows)


def positions_of(family: Family) -> np.ndarray:
    """(ROWS, longest), -1 in the padding behind a row."""
    return padded([range(length) for length in family.lengths])


def padded(rows: Sequence[Sequence[int]]) -> np.ndarray:
    return np.array([[*row, *[-1] * (max(map(len, rows)) - len(row))] for row in rows], np.int32)
