"""The default model's tuning: skills, what it says of itself, and some of what it had read before.

    python -m recipes.tuned --corpus FOLDER --base MODEL --out runs/tuned

writes the examples, fine-tunes all weights by `gemwright.sft`, and examines the result. Two thirds of the tokens are of
the corpus, without which the model forgets texts. Interrupted, the same command goes on. Expected: see docs/tuning.md.
"""

import argparse
import itertools
import json
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

import gemwright
from gemwright.data.documents import read_folder, standard_library
from gemwright.data.skills import fingerprint, questions
from gemwright.model import Model
from recipes.manners import manners
from recipes.mini import mixture, passages, split_opening
from recipes.skills import examine, replies, share, skills, taught, write_rows

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
    asked, said = taught(seed), manners("train", seed)
    read, told = _passages(corpus, LONGEST, seed), _passages(corpus, LONGEST_CHAT, seed)

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
    roles = [("user", "assistant")] * len(turns)
    messages = [
        {"role": role, "content": text}
        for pair, texts in zip(roles, turns, strict=True)
        for role, text in zip(pair, texts, strict=True)
    ]
    return {"messages": messages}


def _passages(corpus: Path | None, longest: int, seed: int) -> Iterator[str]:
    """Of the training documents, mixed, without end."""
    found = [*(read_folder(corpus) if corpus else []), *standard_library()]
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for examples, result and report")
    parser.add_argument("--corpus", type=Path, help="a folder of text files or JSON lines")
    parser.add_argument("--base", required=True, help="the model that is tuned, as recipes/mini.py makes it")
    parser.add_argument("--examples", type=int, default=180_000)
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--questions", type=int, default=1800, help="of the examination")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    begun, data = time.perf_counter(), asked.out / "train.jsonl"
    if not data.exists():
        write_rows(data, rows(asked.examples, asked.corpus, asked.seed))
    settings: dict[str, Any] = {"lora": asked.lora, "rate": asked.rate, "epochs": 1, "seed": asked.seed}
    tuned = gemwright.sft(
        asked.base, data, asked.out / "tuned", held_out=0.002, skip_bad=True, overwrite=True, **settings
    )
    base = gemwright.load(asked.base)
    model = base.with_adapter(tuned.folder) if asked.lora else gemwright.load(tuned.folder)
    found = list(itertools.islice(questions("heldout", asked.seed, skills()), asked.questions))
    report = {
        **{name: getattr(tuned, name) for name in ("steps", "tokens", "trained", "loss_before", "loss_after")},
        **settings,
        "fingerprint": fingerprint(found),
        "before": examine(base, found),
        "after": examine(model, found),
        "manners": examine_manners(model, 200, asked.seed),
        "seconds": round(time.perf_counter() - begun),
    }
    (asked.out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
