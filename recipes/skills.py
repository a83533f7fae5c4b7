"""A model learns skills that a rule can check, and is examined on operands it never saw.

    python -m recipes.skills --further --out runs/skills                 # all weights of the default model
    python -m recipes.skills --further --out runs/skills-lora --lora 10  # an adapter

Without --further the skills are those that the default model was taught: for a model that was not. The recipe writes
questions, fine-tunes by `gemwright.sft`, and counts the answers that are right to the letter, before and after,
with 95% intervals. Interrupted, the same command goes on. Expected: see docs/tuning.md.
"""

import argparse
import itertools
import json
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import gemwright
from gemwright.data.skills import (
    FURTHER,
    SKILLS,
    Question,
    Skill,
    counting,
    editing,
    fingerprint,
    multiplication,
    questions,
    sorting,
)
from gemwright.model import DEFAULT_MODEL, Model
from gemwright.text.chat import Message, format_chat
from gemwright.tuning.intervals import wilson
from recipes.sql_data import Shop

ROWS = 60
LONGEST = 160
"""Rows answered together, and tokens of the longest answer."""

SHOP = Shop()


def skills() -> tuple[Skill, ...]:
    """All that there are; SQL where the database is."""
    return (*SKILLS, SHOP.skill) if SHOP.is_there else SKILLS


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """JSON lines."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def taught(seed: int, more: Sequence[Skill] = ()) -> Iterator[dict[str, str]]:
    """Without end; what is hardest to learn is asked twice as often.

    Args:
      more: skills beside these.
    """
    again = (SHOP.borrowed, *(SHOP.invented,) * 3) if SHOP.is_there else ()
    asked = (*skills(), multiplication, sorting, counting, editing, *again, *more)
    return map(_row, questions("train", seed, asked))


def further(seed: int) -> Iterator[dict[str, str]]:
    """Without end; of the skills that the default model was not taught."""
    return map(_row, questions("train", seed, FURTHER))


def _row(one: Question) -> dict[str, str]:
    return {"prompt": one.prompt, "completion": one.completion}


def replies(model: Model, asked: Sequence[str]) -> list[str]:
    """What the model says to each, the likeliest token each time."""
    said: list[str] = []
    for first in range(0, len(asked), ROWS):
        prompts = [format_chat(model.tokenizer, [Message("user", one)]).ids for one in asked[first : first + ROWS]]
        said += [model.tokenizer.decode(row).strip() for row in model.generate_ids(prompts, LONGEST)]
    return said


def examine(model: Model, found: Sequence[Question]) -> dict[str, dict[str, float]]:
    """Of each skill and of all: the share right to the letter, and its 95% interval."""
    right = defaultdict[str, list[bool]](list)
    for one, said in zip(found, replies(model, [one.prompt for one in found]), strict=True):
        for name in (one.skill, "all"):
            right[name].append(is_right(one, said))
    return {name: share(sum(values), len(values)) for name, values in right.items()}


def is_right(one: Question, said: str) -> bool:
    """To the letter; a query by what it finds."""
    return SHOP.is_right(one, said) if one.skill == "sql" else one.is_right(said)


def share(right: int, count: int) -> dict[str, float]:
    low, high = wilson(right, count)
    return {"right": round(right / count, 4), "low": round(low, 4), "high": round(high, 4), "questions": count}


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for questions, result and report")
    parser.add_argument("--model", default=str(DEFAULT_MODEL), help="the model that is tuned")
    parser.add_argument("--further", action="store_true", help="skills that the default model was not taught")
    parser.add_argument("--examples", type=int, default=60_000)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--lora", type=int, default=0)
    parser.add_argument("--rate", type=float)
    parser.add_argument("--questions", type=int, default=1200, help="of the examination")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def tune_and_examine(asked: argparse.Namespace, data: Path, examined: Sequence[Skill]) -> dict[str, Any]:
    """What is to be told of the tuned model."""
    base = gemwright.load(asked.model)
    settings: dict[str, Any] = {"lora": asked.lora, "rate": asked.rate, "epochs": asked.epochs, "seed": asked.seed}
    tuned = gemwright.sft(asked.model, data, asked.out / "tuned", overwrite=True, held_out=0.005, **settings)
    model = base.with_adapter(tuned.folder) if asked.lora else gemwright.load(tuned.folder)
    found = list(itertools.islice(questions("heldout", asked.seed, examined), asked.questions))
    return {
        **{name: getattr(tuned, name) for name in ("steps", "tokens", "trained", "loss_before", "loss_after")},
        **settings,
        "fingerprint": fingerprint(found),
        "before": examine(base, found),
        "after": examine(model, found),
    }


def tell(report: dict[str, Any], out: Path, begun: float) -> None:
    """Write and print a report, with the seconds since `begun`."""
    report = {**report, "seconds": round(time.perf_counter() - begun)}
    (out / "report.json").write_text(json.dumps(report, indent=2) + "\n")
    print(json.dumps(report, indent=2))


def main() -> None:
    asked = arguments().parse_args()
    begun, data = time.perf_counter(), asked.out / "train.jsonl"
    examined = FURTHER if asked.further else skills()
    if not data.exists():
        found = further(asked.seed) if asked.further else taught(asked.seed)
        write_rows(data, itertools.islice(found, asked.examples))
    tell(tune_and_examine(asked, data, examined), asked.out, begun)


if __name__ == "__main__":
    main()
