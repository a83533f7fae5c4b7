"""Rendered pictures of one or two things, with captions, questions and their answers.

A thing is a shape or a digit in one of ten colours. Some combinations of thing and colour are held out: training
never shows them, though it shows each thing and each colour. A model that has learned to see names them too.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from gemwright.images.pixels import to_pixels

SIDE = 96
"""Pixels of a picture along one side."""

SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
DIGITS = tuple("0123456789")
NAMES = (*SHAPES, *DIGITS)
COLOURS = {
    "red": (220, 40, 40),
    "orange": (245, 140, 30),
    "yellow": (240, 225, 60),
    "green": (40, 170, 60),
    "cyan": (60, 215, 220),
    "blue": (60, 90, 235),
    "purple": (150, 60, 200),
    "pink": (250, 150, 190),
    "white": (240, 240, 240),
    "grey": (130, 130, 130),
}

ALONE = 0.3
"""The share of pictures with one thing."""

SIZES = range(34, 45)
"""Pixels of a thing along one side."""

BOLD = 2
"""Pixels added to a digit's strokes on either side: else they are thin beside shapes, and learned late."""

Split = Literal["train", "heldout"]
SPLITS: tuple[Split, ...] = ("train", "heldout")


@dataclass(frozen=True)
class Thing:
    name: str
    colour: str

    @property
    def split(self) -> Split:
        """Each name misses at most one colour in training, each colour one or two names."""
        name, colour = NAMES.index(self.name), list(COLOURS).index(self.colour)
        return "heldout" if (7 * name + colour) % 11 == 0 else "train"

    def __str__(self) -> str:
        return f"{self.colour} {self.name}"


@dataclass(frozen=True)
class Example:
    """What a prompt asks about a picture. `things` stand on its left and right; None where nothing does."""

    picture: Image.Image
    things: tuple[Thing | None, Thing | None]
    kind: str
    prompt: str
    answer: str


EVERY_THING = tuple(Thing(name, colour) for name in NAMES for colour in COLOURS)
TRAINED = tuple(thing for thing in EVERY_THING if thing.split == "train")
HELD_OUT = tuple(thing for thing in EVERY_THING if thing.split == "heldout")
CAPTION = "caption"
QUESTIONS: dict[str, Callable[[Thing], tuple[str, str]]] = {
    "left": lambda thing: ("answer en What is on the left?", f"a {thing}"),
    "right": lambda thing: ("answer en What is on the right?", f"a {thing}"),
    "colour": lambda thing: (f"answer en What colour is the {thing.name}?", thing.colour),
    "name": lambda thing: (f"answer en What is {thing.colour}?", f"a {thing.name}"),
}
"""By kind: the question about a thing, and its answer. `colour` and `name` ask about either side."""

KINDS = (CAPTION, *QUESTIONS)


def examples(split: Split, seed: int, kinds: Sequence[str] = KINDS) -> Iterator[Example]:
    """Without end, each of `kinds` as often. Those held out show at least one combination that training does not."""
    rng = np.random.default_rng([seed, split == "heldout"])
    while True:
        asked, other = scene(split, rng)
        yield example(asked, other, kinds[int(rng.integers(len(kinds)))], rng)


def scene(split: Split, rng: np.random.Generator) -> tuple[Thing, Thing | None]:
    """A thing of the split's own combinations, and mostly another one of another name and colour."""
    own, known = (TRAINED, TRAINED) if split == "train" else (HELD_OUT, EVERY_THING)
    asked = own[int(rng.integers(len(own)))]
    if rng.random() < ALONE:
        return asked, None
    others = [thing for thing in known if thing.name != asked.name and thing.colour != asked.colour]
    return asked, others[int(rng.integers(len(others)))]


def example(asked: Thing, other: Thing | None, kind: str, rng: np.random.Generator) -> Example:
    """A picture with `asked` on the side that the question is about, and else on either."""
    asked_left = {"left": True, "right": False}.get(kind, bool(rng.integers(2)))
    things = (asked, other) if asked_left else (other, asked)
    caption = " and ".join(f"a {thing}" for thing in things if thing is not None)
    prompt, answer = ("caption en", caption) if kind == CAPTION else QUESTIONS[kind](asked)
    return Example(render(things, rng), things, kind, prompt, answer)


def render(things: tuple[Thing | None, Thing | None], rng: np.random.Generator) -> Image.Image:
    """Things on dark noise, each somewhere in its half, of a size and shade of its own."""
    noise = rng.integers(0, 30, (SIDE, SIDE, 1), np.uint8) + rng.integers(0, 30, 3, np.uint8)
    picture = Image.fromarray(noise)
    pen = ImageDraw.Draw(picture)
    for thing, start in zip(things, (0, SIDE // 2), strict=True):
        if thing is None:
            continue
        size = int(rng.choice(SIZES))
        x = start + int(rng.integers(1, SIDE // 2 - size))
        y = int(rng.integers(1, SIDE - size))
        shade = np.clip(np.array(COLOURS[thing.colour]) + rng.integers(-18, 19, 3), 0, 255)
        draw_thing(pen, thing.name, (x, y, x + size, y + size), (int(shade[0]), int(shade[1]), int(shade[2])))
    return picture


def draw_thing(
    pen: ImageDraw.ImageDraw, name: str, box: tuple[int, int, int, int], colour: tuple[int, int, int]
) -> None:
    left, top, right, bottom = box
    middle, centre, third = (left + right) // 2, (top + bottom) // 2, (right - left) // 3
    if name == "circle":
        pen.ellipse(box, fill=colour)
    elif name == "ring":
        pen.ellipse(box, outline=colour, width=max(3, (right - left) // 6))
    elif name == "square":
        pen.rectangle(box, fill=colour)
    elif name == "triangle":
        pen.polygon([(middle, top), (right, bottom), (left, bottom)], fill=colour)
    elif name == "diamond":
        pen.polygon([(middle, top), (right, centre), (middle, bottom), (left, centre)], fill=colour)
    elif name == "cross":
        pen.rectangle((left + third, top, right - third, bottom), fill=colour)
        pen.rectangle((left, top + third, right, bottom - third), fill=colour)
    else:
        pen.text((middle, centre), name, fill=colour, font=digits(bottom - top), anchor="mm", stroke_width=BOLD)


@cache
def digits(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """The font whose digits are as high as things of this size."""
    return ImageFont.load_default(round(size * 1.25))


def pixels(found: Sequence[Example], side: int) -> np.ndarray:
    """(examples, side, side, 3) in [-1, 1]: the pictures as a model reads them."""
    return np.stack([to_pixels(one.picture, side) for one in found])
