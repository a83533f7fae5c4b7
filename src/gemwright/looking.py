"""Texts and pictures as a model reads them: which models see, what a picture is to them, what stands in a row.

A prompt is a text, or a list of texts and pictures in their order. Gemma 3 takes pictures anywhere, PaliGemma in front
of one text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeGuard

import jax
import numpy as np

from gemwright.inference.interleaved import Row, advance_to, mark_of, read_rows
from gemwright.inference.pictures import read_pictures, row_of
from gemwright.inference.session import Session
from gemwright.models import gemma3_vision, paligemma
from gemwright.models.family import Config
from gemwright.text.interleaved import format_interleaved
from gemwright.text.picture_prompt import format_picture_prompt
from gemwright.text.prompt import Picture
from gemwright.text.tokenizer import Tokenizer

Prompt = str | Sequence[Any]
"""A text, or texts and pictures in their order. A picture is a `Path`, the bytes of a file, or one of Pillow's."""


@dataclass(frozen=True)
class Seen(Picture):
    """A picture as its model reads it.

    Attributes:
      pixels: by mark, of the whole and of its crops.
    """

    pixels: Mapping[int, np.ndarray] = field(repr=False, compare=False)


@dataclass(frozen=True)
class Eyes:
    """How one model looks at pictures.

    Attributes:
      name: of the model, for errors.
      crops: whether an oblong picture is shown again in crops (pan and scan).
    """

    config: Config
    name: str
    crops: bool = False

    def __post_init__(self) -> None:
        if self.crops and not isinstance(self.config, gemma3_vision.Config):
            raise ValueError(
                f"{self.name} ({self.config.family}): pan_and_scan: only Gemma 3 from the 4B on reads crops"
            )

    def look(self, parts: Sequence[Any]) -> list[str | Picture]:
        """Texts as they are, pictures read from their files.

        Raises:
          PictureError: if a picture cannot be used; one line with the reason.
          ValueError: if the model reads no pictures.
        """
        return [part if isinstance(part, str | Picture) else self._seen(part) for part in parts]

    def _seen(self, source: Any) -> Seen:
        if not sees(self.config):
            raise ValueError(
                f"{self.name} ({self.config.family}) reads no pictures: leave them out, or take a PaliGemma, or a "
                "Gemma 3 from the 4B on"
            )
        if not is_picture(source):
            raise ValueError(
                f"expected texts and pictures (a Path, the bytes of a file, or Pillow's), found {type(source).__name__}"
            )
        from gemwright.images.crops import pan_and_scan  # needs Pillow, which texts do without
        from gemwright.images.load import load_picture
        from gemwright.images.pixels import to_pixels

        picture, size = load_picture(source), self.config.vision.image_size
        recipe = "bicubic" if isinstance(self.config, paligemma.Config) else "bilinear"
        shown = [picture, *(pan_and_scan(picture) if self.crops else ())]
        pixels = [to_pixels(each, size, recipe) for each in shown]
        marks = tuple(mark_of(each) for each in pixels)
        return Seen(marks, self.config.picture_tokens, dict(zip(marks, pixels, strict=True)))


def sees(config: Config) -> TypeGuard[paligemma.Config | gemma3_vision.Config]:
    """Whether a model of these constants reads pictures."""
    return isinstance(config, paligemma.Config | gemma3_vision.Config)


def is_picture(part: Any) -> bool:
    """Whether a part of a prompt is a picture, and neither text nor a prompt of its own."""
    return isinstance(part, Path | bytes | Picture) or hasattr(part, "getbands")


def pixels_of(parts: Sequence[Any]) -> dict[int, np.ndarray]:
    """The pictures among parts that were looked at, by mark."""
    return {mark: pixels for part in parts if isinstance(part, Seen) for mark, pixels in part.pixels.items()}


def rows_of(eyes: Eyes, tokenizer: Tokenizer, prompts: Sequence[Prompt], images: Sequence[Any] | None) -> list[Row]:
    """Prompts as a session reads them.

    Args:
      images: to stand before each prompt: one, or a list of them.

    Raises:
      PictureError: if a picture cannot be used; one line with the reason.
      ValueError: if the model does not read what it is given.
    """
    rows = [eyes.look(parts) for parts in _parts_of(eyes, prompts, images)]
    return [_row(eyes, tokenizer, parts) for parts in rows]


def begin(session: Session, rows: Sequence[Row]) -> None:
    """Read rows into an empty session; raises ContextFull or MemoryShort where they do not fit."""
    weights, config = session.weights, session.config
    if not any(row.pictures for row in rows):
        session.extend([row.tokens for row in rows])
    elif isinstance(weights, gemma3_vision.Gemma3Vision):
        assert isinstance(config, gemma3_vision.Config)
        read_rows(session, weights, config, rows)
    else:
        assert isinstance(weights, paligemma.PaliGemma)
        assert isinstance(config, paligemma.Config)
        read_pictures(session, weights, config, rows)


def advance(session: Session, row: Row, looked: dict[int, jax.Array]) -> int:
    """Make a session's only row hold `row`; returns how many of its tokens were there already.

    Args:
      looked: pictures that were looked at before, as `read_rows` has them.
    """
    weights, config = session.weights, session.config
    if not row.pictures:
        return session.advance_to(row.tokens)
    assert isinstance(weights, gemma3_vision.Gemma3Vision)
    assert isinstance(config, gemma3_vision.Config)
    return advance_to(session, weights, config, row, looked)


def converses(config: Config) -> bool:
    """Whether a model knows turns; PaliGemma answers single prompts alone."""
    return not isinstance(config, paligemma.Config)


def check_converses(config: Config, name: str) -> None:
    """Raises ValueError if a model answers single prompts alone."""
    if not converses(config):
        raise ValueError(
            f"{name} ({config.family}) answers one prompt about its pictures and knows no turns: give --image, or call "
            "generate(prompt, images=[picture])"
        )


# ------------------------------------------------------------------------------------ what stands in a row


def _parts_of(eyes: Eyes, prompts: Sequence[Prompt], images: Sequence[Any] | None) -> list[list[Any]]:
    """Texts and pictures of each prompt, those of `images` in front."""
    parts = [[prompt] if isinstance(prompt, str) else list(prompt) for prompt in prompts]
    if images is None:
        return parts
    if isinstance(images, str) or is_picture(images) or len(images) != len(prompts):
        found = "a single one" if isinstance(images, str) or is_picture(images) else str(len(images))
        raise ValueError(
            f"{eyes.name} ({eyes.config.family}): images: expected {len(prompts)} in a list, found {found}: one before "
            "each prompt, or a list of them"
        )
    before = [[image] if isinstance(image, str) or is_picture(image) else list(image) for image in images]
    paths = [[Path(image) if isinstance(image, str) else image for image in row] for row in before]
    return [[*pictures, *rest] for pictures, rest in zip(paths, parts, strict=True)]


def _row(eyes: Eyes, tokenizer: Tokenizer, parts: Sequence[str | Picture]) -> Row:
    if isinstance(eyes.config, paligemma.Config):
        return _prefix(eyes, eyes.config, tokenizer, parts)
    if not sees(eyes.config):
        return Row(tokenizer.with_bos(tokenizer.encode("".join(map(str, parts)))))
    return Row(format_interleaved(tokenizer, parts).ids, pixels_of(parts))


def _prefix(eyes: Eyes, config: paligemma.Config, tokenizer: Tokenizer, parts: Sequence[str | Picture]) -> Row:
    """PaliGemma's: pictures, then the prompt."""
    pictures = [part for part in parts if isinstance(part, Seen)]
    texts = [part for part in parts if isinstance(part, str)]
    if not pictures or list(parts) != [*pictures, *texts]:
        found = "none" if not pictures else "text before a picture"
        raise ValueError(
            f"{eyes.name} ({config.family}) reads a picture or more before each prompt, found {found}; give "
            "images=[picture] or --image"
        )
    pixels = [picture.pixels[mark] for picture in pictures for mark in picture.marks]
    return row_of(pixels, format_picture_prompt(tokenizer, "".join(texts)).ids, config)
