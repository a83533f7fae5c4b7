"""What a model says about pictures of shapes and digits: asked, counted, drawn (`recipes/shapes.py`)."""

import itertools
import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

import gemwright
from gemwright.inference.generate import decode
from gemwright.inference.pictures import read_pictures, row_of
from gemwright.inference.session import Session
from gemwright.models.paligemma import Config, PaliGemma
from gemwright.text.picture_prompt import format_picture_prompt
from gemwright.text.tokenizer import Tokenizer, load_tokenizer
from gemwright.training.report import read_losses
from recipes.shapes_data import KINDS, SPLITS, Example, Split, examples, pixels

LENGTH = 22
"""Tokens that the longest prompt and its answer need."""

ASKED_FROM = 1_000_000
"""Seeds of questions: below it are those of training, which are its steps' numbers."""

TOGETHER = 100
"""Questions answered at once."""

Answered = tuple[Example, str]
"""An example, and what the model said to it."""


def tokenizer() -> Tokenizer:
    return load_tokenizer(Path(gemwright.__file__).parent / "default_model")


# ------------------------------------------------------------------------------------------ asked


def ask(weights: PaliGemma, config: Config, split: Split, count: int, seed: int) -> list[Answered]:
    """`count` examples, each kind as often but for chance, and what the model says to each."""
    words, stream = tokenizer(), questions(split, seed)
    found: list[Answered] = []
    while len(found) < count:
        some = list(itertools.islice(stream, min(TOGETHER, count - len(found))))
        found += zip(some, answers(weights, config, some, words), strict=True)
    return found


def questions(split: Split, seed: int) -> Iterator[Example]:
    """Without end, of no seed that training uses."""
    return examples(split, ASKED_FROM + seed)


def answers(weights: PaliGemma, config: Config, found: Sequence[Example], words: Tokenizer) -> list[str]:
    """What the model says to each, the likeliest word each time."""
    session = Session(weights.decoder, config.decoder, len(found), capacity=config.vision.patches + LENGTH)
    prompts = [format_picture_prompt(words, one.prompt).ids for one in found]
    shown = zip(pixels(found, config.vision.image_size), prompts, strict=True)
    read_pictures(session, weights, config, [row_of([picture], prompt, config) for picture, prompt in shown])
    said: list[list[int]] = [[] for _ in found]
    for chosen in decode(session, LENGTH, stop_ids=words.stop_ids):
        for row, token in zip(said, chosen.tokens, strict=True):
            row.extend([] if token is None else [token])
    return [words.decode(row) for row in said]


# ---------------------------------------------------------------------------------------- counted


def count_right(found: Sequence[Answered]) -> dict[str, tuple[int, int]]:
    """By kind, by the number of things, and of all: answers right to the letter, and questions."""
    right = defaultdict[str, list[bool]](list)
    for one, said in found:
        things = "one thing" if None in one.things else "two things"
        for key in (one.kind, things, "all"):
            right[key].append(said == one.answer)
    return {key: (sum(right[key]), len(right[key])) for key in (*KINDS, "one thing", "two things", "all")}


def interval(right: int, of: int) -> tuple[float, float]:
    """The 95% interval of a share, after Wilson (1927)."""
    z = 1.959964
    middle = (right + z * z / 2) / (of + z * z)
    reach = z / (of + z * z) * math.sqrt(right * (of - right) / of + z * z / 4)
    return max(0.0, middle - reach), min(1.0, middle + reach)


def write_report(found: Mapping[Split, Sequence[Answered]], folder: Path) -> None:
    """Print a table of the shares, and write `report.json`: the counts and every wrong answer."""
    counts = {split: count_right(found[split]) for split in SPLITS}
    wrong = {
        split: [{"prompt": one.prompt, "answer": one.answer, "said": said} for one, said in found[split]
                if said != one.answer]
        for split in SPLITS
    }  # fmt: skip
    (folder / "report.json").write_text(json.dumps({"right": counts, "wrong": wrong}, indent=1) + "\n")
    print("| Asked | Combinations held out | Combinations trained |\n|---|---|---|")
    for key in counts["heldout"]:
        print(f"| {key} | {cell(*counts['heldout'][key])} | {cell(*counts['train'][key])} |")


def cell(right: int, of: int) -> str:
    if not of:
        return "none asked"
    low, high = interval(right, of)
    return f"{right} of {of}: {right / of:.1%} ({low:.1%} to {high:.1%})"


# ------------------------------------------------------------------------------------------ drawn


def draw_answers(found: Sequence[Answered], side: int, path: Path) -> None:
    """Pictures as the model sees them, four in a row, each over its prompt and the answer; wrong ones in red."""
    width, height, columns = 4 * side + 48, 4 * side + 64, 4
    sheet = Image.new("RGB", (width * columns, height * -(-len(found) // columns)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    for index, (one, said) in enumerate(found):
        x, y = width * (index % columns) + 8, height * (index // columns) + 8
        small = one.picture.resize((side, side), Image.Resampling.BICUBIC)
        sheet.paste(small.resize((4 * side, 4 * side), Image.Resampling.NEAREST), (x, y))
        pen.text((x, y + 4 * side + 4), one.prompt, fill="black", font=font)
        right = said == one.answer
        text = said if right else f"{said} (it is {one.answer})"
        pen.text((x, y + 4 * side + 22), text, fill="green" if right else "red", font=font)
    sheet.save(path, optimize=True)


def draw_learning(folder: Path) -> None:
    """`learning.png`: the loss of each step, and the shares of right answers along the way."""
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print("no plot: pip install 'gemwright[plot]' to get one")
        return
    losses = np.array(read_losses(folder))
    looks: list[dict[str, Any]] = [json.loads(line) for line in (folder / "shares.jsonl").read_text().splitlines()]
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    width = max(1, len(losses) // 100)
    left.plot(losses, linewidth=0.4, alpha=0.5, label="each step")
    left.plot(np.arange(width - 1, len(losses)), np.convolve(losses, np.ones(width) / width, mode="valid"),
              label=f"mean of {width} steps")  # fmt: skip
    left.set(xlabel="step", ylabel="loss (nats a token of the answers)", yscale="log")
    for split, label in (("train", "combinations trained"), ("heldout", "combinations held out")):
        right.plot([look["step"] for look in looks], [look[split] for look in looks], label=label)
    right.set(xlabel="step", ylabel="share of answers right to the letter", ylim=(0, 1))
    for axes in (left, right):
        axes.legend()
    figure.savefig(folder / "learning.png", dpi=100)
