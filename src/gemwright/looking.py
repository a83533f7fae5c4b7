"""Pictures and prompts as a model reads them: which models do, and what stands in a row."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeGuard

import numpy as np

from gemwright.inference.pictures import read_pictures
from gemwright.inference.session import Session
from gemwright.models import paligemma
from gemwright.models.family import Config
from gemwright.text.picture_prompt import format_picture_prompt
from gemwright.text.tokenizer import Tokenizer

Picture = str | Path | bytes
"""A path, or the bytes of a file."""


@dataclass(frozen=True)
class Rows:
    """What a session is to read.

    Attributes:
      ids: of each row's text.
      pixels: (rows, S, S, 3), a picture before each text; None for texts alone.
      patches: tokens that a picture takes.
    """

    ids: Sequence[Sequence[int]]
    pixels: np.ndarray | None = None
    patches: int = 0


def reads_pictures(config: Config) -> TypeGuard[paligemma.Config]:
    """Whether a model of these constants reads a picture before each prompt, and nothing without one."""
    return isinstance(config, paligemma.Config)


def rows_of(
    config: Config, tokenizer: Tokenizer, prompts: Sequence[str], images: Sequence[Picture] | None, name: str
) -> Rows:
    """Prompts, each behind its picture where there are pictures.

    Args:
      name: of the model, for errors.

    Raises:
      PictureError: if a picture cannot be used; one line with the reason.
      ValueError: if the model reads no pictures, or reads them and there is not one for each prompt.
    """
    if not reads_pictures(config):
        if images is not None:
            raise ValueError(f"{name} ({config.family}) reads no pictures: leave them out, or take a PaliGemma")
        return Rows([tokenizer.with_bos(tokenizer.encode(prompt)) for prompt in prompts])
    if images is None or isinstance(images, str | bytes) or len(images) != len(prompts):
        raise ValueError(f"{name} ({config.family}) reads a picture before each prompt: {_expected(images, prompts)}")
    if not prompts:
        return Rows([])
    pixels = np.stack([_pixels(image, config.vision.image_size) for image in images])
    rows = [format_picture_prompt(tokenizer, prompt).ids for prompt in prompts]
    return Rows(rows, pixels, config.vision.patches)


def begin(session: Session, rows: Rows) -> None:
    """Read rows into an empty session; raises ContextFull or MemoryShort where they do not fit."""
    weights, config = session.weights, session.config
    if rows.pixels is None:
        session.extend(rows.ids)
    else:
        assert isinstance(weights, paligemma.PaliGemma)
        assert isinstance(config, paligemma.Config)
        read_pictures(session, weights, config, rows.pixels, rows.ids)


def check_converses(config: Config, name: str) -> None:
    """Raises ValueError if a model answers single prompts alone."""
    if reads_pictures(config):
        raise ValueError(
            f"{name} ({config.family}) answers one prompt about one picture and knows no turns: give --image, or call "
            "generate(prompt, images=[picture])"
        )


def _expected(images: Sequence[Picture] | None, prompts: Sequence[str]) -> str:
    found = "none" if images is None else "a single one" if isinstance(images, str | bytes) else str(len(images))
    return f"expected {len(prompts)} in a list, found {found}; give images=[picture] or --image"


def _pixels(image: Picture, size: int) -> np.ndarray:
    from gemwright.images.load import load_picture  # needs Pillow, which texts do without
    from gemwright.images.pixels import to_pixels

    return to_pixels(load_picture(image), size)
