"""The default model's tuning: skills, what it says of itself, and some of what it had read before.

    python -m recipes.tuned --corpus FOLDER --out runs/tuned

writes the examples, fine-tunes all weights by `gemwright.sft`, and examines the result. Two thirds of the tokens are of
the corpus, without which the model forgets texts. Interrupted, the same command goes on. Expected: see docs/tuning.md.
"""

import itertools
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from gemwright.data.documents import Document
from gemwright.model import Model
from recipes.manners import manners
from recipes.mini import documents, mixture, passages, split_opening
from recipes.skills import arguments, replies, share, taught, tell, tune_and_examine, write_rows

MANNERS, REWORDED, TURNS = 0.1, 0.3, 0.25
"""Of the questions, those about the model and its limits; of the others, those that are asked in another way; of the
conversations, those that go on for a second turn."""
TEXTS, CHATS = 0.35, 0.05
"""Documents, and openings of documents to go on with, for each conversation."""
LONGEST, LONGEST_CHAT = 1600, 700
"""Bytes of a passage, and of one that is an answer."""


def rows(count: int, corpus: Path | None, seed: int) -> Iterator[dict[str, Any]]:
    """Examples of all kinds."""
    rng = random.Random(f"tuned {seed}")
    asked, said, found = taught(seed), manners("train", seed), documents(corpus)
    read, told = _passages(found, LONGEST, seed), _passages(found, LONGEST_CHAT, seed)

    def turn() -> tuple[str, str]:
        if rng.random() < MANNERS:
            return next(said)
        row = next(asked)
        return reworded(row["prompt"], rng) if rng.random() < REWORDED else row["prompt"], row["completion"]

    for _ in range(count):
        yield _conversation([turn() for _ in range(1 + (rng.random() < TURNS))])
        if rng.random() < TEXTS:
            yield {"text": next(read)}
        if rng.random() < CHATS and all(parts := split_opening(next(told))):
            yield _conversation([parts])


def reworded(prompt: str, rng: random.Random) -> str:
    """A calculation or a list to sort asked for in another way; other questions as they are."""
    if prompt.endswith(" ="):
        asked = prompt.removesuffix(" =")
        return rng.choice(("What is {}?", "{}", "{}?", "Calculate {}.")).format(
            asked if rng.random() < 0.5 else asked.replace(" ", "")
        )
    return prompt.replace("Sort:", rng.choice(("Sort these numbers:", "Sort", "Put in order:")))


def _conversation(turns: list[tuple[str, str]]) -> dict[str, Any]:
    roles = ("user", "assistant")
    said = (message for turn in turns for message in zip(roles, turn, strict=True))
    return {"messages": [{"role": role, "content": text} for role, text in said]}


def _passages(found: list[Document], longest: int, seed: int) -> Iterator[str]:
    """Of the training documents, mixed, without end."""
    rng = np.random.default_rng(seed)
    texts = [piece for document in mixture(found, rng) for piece in passages(document.text, longest)]
    kept = [text for text in texts if 40 < len(text.encode()) <= longest]
    while True:
        for index in rng.permutation(len(kept)):
            yield kept[index]


def examine_manners(model: Model, count: int, seed: int) -> dict[str, float]:
    """Questions held out by their words, answered to the letter."""
    found = list(itertools.islice(manners("heldout", seed), count))
    said = replies(model, [question for question, _ in found])
    return share(sum(text == answer for text, (_, answer) in zip(said, found, strict=True)), count)


def main() -> None:
    parser = arguments(__doc__, examples=180_000, asked=1800)
    parser.add_argument("--corpus", type=Path, help="a folder of text files or JSON lines")
    asked = parser.parse_args()
    begun, data = time.perf_counter(), asked.out / "train.jsonl"
    if not data.exists():
        write_rows(data, rows(asked.examples, asked.corpus, asked.seed))
    model, report = tune_and_examine(asked, data, held_out=0.002, skip_bad=True)
    tell({**report, "manners": examine_manners(model, 200, asked.seed)}, asked.out, begun)


if __name__ == "__main__":
    main()
