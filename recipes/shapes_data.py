"""Rendered pictures of two things, with captions, questions and their answers.

A thing is a shape or a digit in one of ten colours. Some combinations of thing and colour are held out: training
never shows them, though it shows each thing and each colour. A model that has learned to see names them too.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image, ImageDraw, ImageFont

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

Split = Literal["train", "heldout"]


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
    picture: Image.Image
    prompt: str
    answer: str


EVERY_THING = tuple(Thing(name, colour) for name in NAMES for colour in COLOURS)
PROMPTS: dict[str, Callable[[Thing, Thing], tuple[str, str]]] = {
    "caption": lambda left, right: ("caption en", f"a {left} and a {right}"),
    "left": lambda left, right: ("answer en What is on the left?", f"a {left}"),
    "right": lambda left, right: ("answer en What is on the right?", f"a {right}"),
    "colour": lambda left, right: (f"answer en What colour is the {left.name}?", left.colour),
    "name": lambda left, right: (f"answer en What is {left.colour}?", f"a {left.name}"),
}
"""By kind: the prompt about two things, and its answer. `colour` and `name` ask about either side."""


def examples(split: Split, seed: int) -> Iterator[Example]:
    """Without end. Those held out show at least one combination that training does not, and ask about it."""
    rng = np.random.default_rng([seed, split == "heldout"])
    while True:
        asked, other = scene(split, rng)
        kind = list(PROMPTS)[rng.integers(len(PROMPTS))]
        yield example(asked, other, kind, rng)


def scene(split: Split, rng: np.random.Generator) -> tuple[Thing, Thing]:
    """Two things of different names and colours, the first of the split's own combinations."""
    own = [thing for thing in EVERY_THING if thing.split == split]
    asked = own[rng.integers(len(own))]
    known = [thing for thing in EVERY_THING if split == "heldout" or thing.split == "train"]
    others = [thing for thing in known if thing.name != asked.name and thing.colour != asked.colour]
    return asked, others[rng.integers(len(others))]


def example(asked: Thing, other: Thing, kind: str, rng: np.random.Generator) -> Example:
    """A picture of two things, `asked` on the side that the question is about, and else on either."""
    asked_left = {"left": True, "right": False}.get(kind, bool(rng.integers(2)))
    left, right = (asked, other) if asked_left else (other, asked)
    subjects = (asked, other) if kind in ("colour", "name") else (left, right)
    return Example(render(left, right, rng), *PROMPTS[kind](*subjects))


def render(left: Thing, right: Thing, rng: np.random.Generator) -> Image.Image:
    """The two things on dark noise, each somewhere in its half, of a size and shade of its own."""
    noise = rng.integers(0, 30, (SIDE, SIDE, 1)) + rng.integers(0, 30, 3)
    picture = Image.fromarray(noise.astype(np.uint8))
    pen = ImageDraw.Draw(picture)
    for thing, start in ((left, 0), (right, SIDE // 2)):
        size = int(rng.integers(32, 43))
        x = start + int(rng.integers(2, SIDE // 2 - size - 2))
        y = int(rng.integers(2, SIDE - size - 2))
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
        font = ImageFont.load_default(round((bottom - top) * 1.25))
        pen.text((middle, centre), name, fill=colour, font=font, anchor="mm")
