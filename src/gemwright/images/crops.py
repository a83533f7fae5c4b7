"""Pan and scan: an oblong picture is shown to Gemma 3 whole and again in crops, so that small things stay legible.

Source: the report on Gemma 3, and transformers' processor for it, whose crops these are.
"""

from dataclasses import dataclass

from PIL import Image


@dataclass(frozen=True)
class PanAndScan:
    """When a picture is cut, and into how much; the values are those of Gemma 3.

    Attributes:
      smallest: pixels that no side of a crop may fall below.
      most: crops of one picture.
      from_ratio: pictures less oblong than this (longer side over shorter one) stay whole.
    """

    smallest: int = 256
    most: int = 4
    from_ratio: float = 1.2


def pan_and_scan(picture: Image.Image, rule: PanAndScan | None = None) -> list[Image.Image]:
    """The crops of a picture, from left to right or from top to bottom; none for one that stays whole.

    Each is about as long as the picture's shorter side; the last may be a little shorter than the others.
    """
    width, height = picture.size
    longer, count = max(width, height), _count(max(width, height), min(width, height), rule or PanAndScan())
    step = -(-longer // count)
    cuts = [(start, min(start + step, longer)) for start in range(0, count * step, step)] if count > 1 else []
    if width >= height:
        return [picture.crop((start, 0, end, height)) for start, end in cuts]
    return [picture.crop((0, start, width, end)) for start, end in cuts]


def _count(longer: int, shorter: int, rule: PanAndScan) -> int:
    """How many crops; 1 for a picture that stays whole."""
    ratio = longer / shorter
    if ratio < rule.from_ratio:
        return 1
    wanted = min(int(ratio + 0.5), longer // rule.smallest)
    count = min(max(wanted, 2), rule.most)
    return count if min(-(-longer // count), shorter) >= rule.smallest else 1
