"""What PaliGemma writes about places: `<loc0123>` and `<seg045>` in its answers, read and written.

An answer to `detect cat ; dog` is `<loc0100><loc0200><loc0500><loc0600> cat ; ...`; one to `segment cat` has 16
`<segNNN>` between box and label. Four places are top, left, bottom, right, in 1024 steps from 0 to 1: step 1023
is the far edge. Source: google-research/big_vision `pp/proj/paligemma/segmentation.py`.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

PLACES = 1024
SHAPES = 128
CODES = 16
"""Codes of one mask: 4 rows of 4."""

_PLACE = r"<loc(\d{4})>"
_SHAPE = r"<seg(\d{3})>"
_REGION = re.compile(rf"((?:{_PLACE}){{4}})\s*((?:{_SHAPE})*)([^<;]*)")


@dataclass(frozen=True)
class Region:
    """One thing found in a picture.

    Attributes:
      box: top, left, bottom, right, as shares of the picture's height and width from 0 to 1.
      codes: the 16 codes of its mask within the box, each from 0 to 127; empty for a box alone.
      label: what it is called.
    """

    box: tuple[float, float, float, float]
    codes: tuple[int, ...] = ()
    label: str = ""

    def in_pixels(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Left, top, right, bottom in a picture of this size, as Pillow orders them."""
        top, left, bottom, right = self.box
        return round(left * width), round(top * height), round(right * width), round(bottom * height)


def read_regions(answer: str) -> list[Region]:
    """The regions of an answer, in its order; what is no region is skipped.

    Skipped are boxes without four places, places or codes out of range, boxes turned inside out, and masks of
    other than 16 codes lose them: a model may write anything.
    """
    found = (_region(match) for match in _REGION.finditer(answer))
    return [region for region in found if region is not None]


def write_region(region: Region) -> str:
    """A region as the models write it, for prompts and training: boxes are rounded to the nearest step."""
    places = "".join(f"<loc{round(min(max(share, 0.0), 1.0) * (PLACES - 1)):04}>" for share in region.box)
    codes = "".join(f"<seg{code:03}>" for code in region.codes)
    return f"{places}{codes} {region.label}".rstrip()


def write_regions(regions: Sequence[Region]) -> str:
    """Regions one after the other, as answers to `detect` and `segment` list them."""
    return " ; ".join(write_region(region) for region in regions)


def _region(match: re.Match[str]) -> Region | None:
    steps = [int(step) for step in re.findall(_PLACE, match[1])]
    codes = tuple(int(code) for code in re.findall(_SHAPE, match[3]))
    top, left, bottom, right = (step / (PLACES - 1) for step in steps)
    if max(steps) >= PLACES or bottom <= top or right <= left:
        return None
    whole = len(codes) == CODES and max(codes) < SHAPES
    return Region((top, left, bottom, right), codes if whole else (), match[5].strip())
