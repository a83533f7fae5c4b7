"""Regions drawn on a picture: boxes, labels, masks."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gemwright.images.regions import Region

COLOURS = ((230, 60, 50), (40, 130, 230), (30, 160, 80), (240, 160, 20), (150, 70, 200), (20, 170, 180))
"""In turn. Each carries white text."""

_MASK_STRENGTH = 0.45  # of the colour; the rest is the picture


def draw_regions(
    picture: Image.Image, regions: Sequence[Region], masks: Sequence[np.ndarray | None] = ()
) -> Image.Image:
    """A copy of an RGB picture with its regions on it.

    Args:
      masks: for each region what the mask decoder makes of its codes, or None; a shorter list leaves boxes alone.
    """
    drawn = picture.copy()
    colours = [COLOURS[index % len(COLOURS)] for index in range(len(regions))]
    for region, colour, mask in zip(regions, colours, masks, strict=False):
        if mask is not None:
            _tint(drawn, place_mask(region, mask, picture.size), colour)
    for region, colour in zip(regions, colours, strict=True):
        _outline(drawn, region, colour)
    return drawn


def place_mask(region: Region, mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """(height, width) of booleans: a region's mask where it belongs in a picture of `size` width and height.

    Args:
      mask: (side, side), above 0 inside; stretched linearly over the region's box.
    """
    width, height = size
    left, top, right, bottom = region.in_pixels(width, height)
    placed = np.zeros((height, width), bool)
    if right > left and bottom > top:
        stretched = Image.fromarray(mask.astype(np.float32)).resize(
            (right - left, bottom - top), Image.Resampling.BILINEAR
        )
        placed[top:bottom, left:right] = np.asarray(stretched) > 0
    return placed


def _tint(drawn: Image.Image, inside: np.ndarray, colour: tuple[int, int, int]) -> None:
    strength = Image.fromarray((inside * round(255 * _MASK_STRENGTH)).astype(np.uint8))
    drawn.paste(Image.new("RGB", drawn.size, colour), mask=strength)


def _outline(drawn: Image.Image, region: Region, colour: tuple[int, int, int]) -> None:
    pen = ImageDraw.Draw(drawn)
    width = max(1, min(drawn.size) // 150)
    left, top, right, bottom = region.in_pixels(*drawn.size)
    # Pillow's boxes include their last pixel, and a box of no width would be refused.
    pen.rectangle((left, top, max(left, right - 1), max(top, bottom - 1)), outline=colour, width=width)
    if region.label:
        _write(pen, region.label, (left, top), colour, drawn.size)


def _write(
    pen: ImageDraw.ImageDraw, label: str, corner: tuple[int, int], colour: tuple[int, int, int], size: tuple[int, int]
) -> None:
    """A label in white on its colour, moved into the picture where it would leave it."""
    font = ImageFont.load_default(max(10, min(size) // 28))
    left, top, right, bottom = (round(edge) for edge in pen.textbbox((0, 0), label, font=font))
    x = max(0, min(corner[0], size[0] - (right - left) - 4))
    y = max(0, min(corner[1], size[1] - (bottom - top) - 4))
    pen.rectangle((x, y, x + right - left + 3, y + bottom - top + 3), fill=colour)
    pen.text((x + 2 - left, y + 2 - top), label, fill=(255, 255, 255), font=font)
