"""A picture as the numbers that SigLIP reads: squeezed into a square, each channel from -1 to 1.

Three recipes, all antialiased. `bicubic`, the default, gives the numbers of transformers' processors on Pillow for
SigLIP and PaliGemma, `bilinear` those of the one for Gemma 3. `big_vision` is that of google-research/big_vision,
with which PaliGemma was trained: bilinear, fractions of a level dropped.
"""

from typing import Literal

import numpy as np
from PIL import Image

Recipe = Literal["bicubic", "bilinear", "big_vision"]

_ROUNDING = 1e-3  # of a level: float32 sums of a plain surface end this close below it, and are not to drop one


def to_pixels(picture: Image.Image, size: int, recipe: Recipe = "bicubic") -> np.ndarray:
    """(size, size, 3) float32 in [-1, 1] of an RGB picture; its proportions are not kept."""
    if picture.mode != "RGB":
        raise ValueError(f"expected a picture in RGB, found {picture.mode}; load_picture and to_rgb give that")
    levels = _floored(picture, size) if recipe == "big_vision" else _rounded(picture, size, recipe)
    shares = (levels.astype(np.float64) * (1 / 255)).astype(np.float32)
    return (shares - np.float32(0.5)) / np.float32(0.5)


def _rounded(picture: Image.Image, size: int, recipe: Recipe) -> np.ndarray:
    filters = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
    return np.asarray(picture.resize((size, size), filters[recipe]))


def _floored(picture: Image.Image, size: int) -> np.ndarray:
    channels = [channel.convert("F").resize((size, size), Image.Resampling.BILINEAR) for channel in picture.split()]
    return np.floor(np.stack([np.asarray(channel) for channel in channels], axis=-1) + _ROUNDING)
