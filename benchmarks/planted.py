"""Duplicates and leaks planted in real text, and how many are found.

    python -m benchmarks.planted --corpus FOLDER --against FOLDER

Prints for exact copies and for copies with a tenth of their words changed (replaced, left out or put in, at
random places) the recall, and the precision: of what is flagged, how much was planted. Last line JSON.
"""

import argparse
import json
import random
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from gemwright.data.columns import Columns
from gemwright.data.documents import Document, read_folder
from gemwright.data.leaks.search import Decontaminate
from gemwright.data.repeats.exact import Exact
from gemwright.data.repeats.near import Near
from gemwright.data.step import Global

EDITS = 0.1
PLANTED = 500


def edited(text: str, rng: random.Random, words: Sequence[str]) -> str:
    """A text with a tenth of its words (at least one) replaced, left out, or followed by another."""
    parts = text.split()
    for place in sorted(rng.sample(range(len(parts)), max(1, round(EDITS * len(parts)))), reverse=True):
        kind = rng.randrange(3)
        parts[place : place + 1] = [[rng.choice(words)], [], [parts[place], rng.choice(words)]][kind]
    return " ".join(parts)


def flagged(step: Global, texts: Sequence[str]) -> list[bool]:
    documents = [Document(str(n), "planted", text, "train") for n, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as scratch:
        decision = step.decide(Columns([step.sketch(documents, 0)]), Path(scratch))
    return [reason is not None for reason in step.judge(documents, 0, decision).reasons]


def duplicates(texts: list[str], change: Callable[[str], str], step: Global, rng: random.Random) -> dict[str, float]:
    """Copies put after the originals. What the step flags among the originals alone counts against precision."""
    chosen = rng.sample(texts, min(PLANTED, len(texts)))
    found = flagged(step, [*texts, *map(change, chosen)])
    wrong, right = sum(found[: len(texts)]), sum(found[len(texts) :])
    return {"recall": right / len(chosen), "precision": right / max(right + wrong, 1), "planted": len(chosen)}


def leaks(texts: list[str], change: Callable[[str], str], step: Decontaminate, items: list[str]) -> dict[str, float]:
    """Each item in the middle of a text of its own. What is flagged in clean texts counts against precision."""
    hosts = texts[: len(items)]
    wrong = sum(bool(step.find(text)) for text in texts)
    planted = [f"{host[:2000]}\n{change(item)}\n{host[2000:4000]}" for host, item in zip(hosts, items, strict=True)]
    right = sum(bool(step.find(text)) for text in planted)
    return {"recall": right / len(items), "precision": right / (right + wrong), "flagged_clean": wrong / len(texts)}


def benchmark_texts(folder: Path, step: Decontaminate, rng: random.Random) -> list[str]:
    """Questions and passages of a few benchmarks, as their files have them."""
    found: list[str] = []
    for path, field in (("gsm8k/test.jsonl", "question"), ("piqa/valid.jsonl", "goal"), ("mbpp/mbpp.jsonl", "text")):
        file = folder / path
        if file.is_file():
            rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
            found += [row[field] for row in rows if len(row[field].split()) > step.min_words]
    return rng.sample(found, min(PLANTED, len(found)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--against", type=Path, required=True)
    arguments = parser.parse_args()
    rng = random.Random(0)
    texts = sorted({d.text for d in read_folder(arguments.corpus) if 200 < len(d.text) < 8000 and d.text.isascii()})
    words = [word for text in texts[:200] for word in text.split()]
    step = Decontaminate((str(arguments.against),))
    items = benchmark_texts(arguments.against, step, rng)
    whole: Callable[[str], str] = str
    changed: Callable[[str], str] = lambda text: edited(text, rng, words)  # noqa: E731
    result = {
        "exact_copies": duplicates(texts, whole, Exact(), rng),
        "near_exact_copies": duplicates(texts, whole, Near(), rng),
        "near_edited_copies": duplicates(texts, changed, Near(), rng),
        "leaks": leaks(texts, whole, step, items),
        "leaks_other_form": leaks(texts, lambda t: f"  {t.upper()}!! ".replace(" ", " \n"), step, items),
        "leaks_edited": leaks(texts, changed, step, items),
    }
    for name, numbers in result.items():
        print(name, numbers)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
