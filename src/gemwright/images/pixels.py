"""A picture as the numbers that SigLIP reads: squeezed into a square, each channel from -1 to 1.

Two recipes. `bicubic`, the default, gives the numbers of transformers' processor on Pillow, which is what
published fine-tunes have seen. `bilinear` is that of google-research/big_vision, with which the models were
trained: antialiased, fractions of a level dropped.
"""

from typing import Literal

import numpy as np
from PIL import Image

Recipe = Literal["bicubic", "bilinear"]

_ROUNDING = 1e-3  # of a level: float32 sums of a plain surface end this close below it, and are not to drop one


def to_pixels(picture: Image.Image, size: int, recipe: Recipe = "bicubic") -> np.ndarray:
    """(size, size, 3) float32 in [-1, 1] of an RGB picture; its proportions are not kept."""
    if picture.mode != "RGB":
        raise ValueError(f"expected a picture in RGB, found {picture.mode}; load_picture and to_rgb give that")
    levels = _bicubic(picture, size) if recipe == "bicubic" else _bilinear(picture, size)
    shares = (levels.astype(np.float64) * (1 / 255)).astype(np.float32)
    return (shares - np.float32(0.5)) / np.float32(0.5)


def _bicubic(picture: Image.Image, size: int) -> np.ndarray:
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC))


def _bilinear(picture: Image.Image, size: int) -> np.ndarray:
    if picture.size == (size, size):
        return np.asarray(picture)
    channels = [channel.convert("F").resize((size, size), Image.Resampling.BILINEAR) for channel in picture.split()]
    return np.floor(np.stack([np.asarray(channel) for channel in channels], axis=-1) + _ROUNDING)
