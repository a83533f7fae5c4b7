"""The filters beside datatrove's on the same documents in one process: decisions, and throughput of one core.

    python -m benchmarks.data --corpus FOLDER [--also FOLDER ...] [--spoil]

Every English document is judged by both: Gopher's repetition and quality rules, C4 (as FineWeb uses it) and FineWeb,
each rule alone on every document for the decisions, then all in FineWeb's order for the time. Ours begins without
anything remembered. --spoil adds forms of each document spoiled towards the thresholds. Last line JSON, with
`vs_datatrove`, the quotient of the throughputs in processor time, `differing`, which must be 0, and
`settled_by_bounds`, the share of the corpus whose repetition no passage had to be counted for.
"""

import argparse
import functools
import json
import random
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from gemwright.data.documents import Document
from gemwright.data.reading.files import find_files
from gemwright.data.reading.read import origin_of, read_documents
from gemwright.data.rules import repetition
from gemwright.data.rules.batch import Batch, Rule, judge
from gemwright.data.rules.c4 import C4
from gemwright.data.rules.fineweb import FineWeb
from gemwright.data.rules.gopher import GopherQuality
from gemwright.data.rules.language import language_of
from gemwright.data.rules.repetition import GopherRepetition
from gemwright.data.rules.words import forget_words

# Ours, and the class and settings of datatrove's.
PAIRS: dict[str, tuple[Rule, str, dict[str, Any]]] = {
    "gopher_repetition": (GopherRepetition(), "GopherRepetitionFilter", {}),
    "gopher_quality": (GopherQuality(), "GopherQualityFilter", {}),
    "c4_strict": (C4(), "C4QualityFilter", {}),
    "c4": (C4(terminal_punctuation=False), "C4QualityFilter", {"filter_no_terminal_punct": False}),
    "fineweb": (FineWeb(), "FineWebQualityFilter", {}),
}
CHAIN = ("gopher_repetition", "gopher_quality", "c4", "fineweb")


def spoiled(text: str, rng: random.Random) -> str:
    """A text pushed towards some threshold: its lines broken, its beginning repeated, symbols put in."""
    words = text[:4000].split(" ")
    some = rng.randrange(1, 60)
    forms = [
        "\n".join(words),
        " ".join(words[:some] * rng.randrange(1, 5) + words[some:]),
        " ".join(words[:some] * 3 + words[:200]),
        text[:1500].replace(". ", "...\n", rng.randrange(20)),
        text[:2000].replace(". ", ".  ").replace("a", "#", rng.randrange(200)),
        "- " + text[:2000].replace(". ", ".\n- ").replace(", ", "\n"),
        text[:1200].replace(" ", "\n\n", rng.randrange(100)).replace("e", "é1 ", rng.randrange(60)),
        "\n".join([*words[: some // 4], text[:600], *words[: some // 8]]),
    ]
    return rng.choice(forms)


def batches(texts: Sequence[str], characters: int = 1 << 20) -> list[list[str]]:
    found: list[list[str]] = [[]]
    size = 0
    for text in texts:
        if size >= characters:
            found.append([])
            size = 0
        found[-1].append(text)
        size += len(text)
    return found


def decisions_of_ours(name: str, texts: Sequence[str]) -> list[str | None]:
    """A text as the rule leaves it, or None where it drops it."""
    result: list[str | None] = []
    for batch in batches(texts):
        said = PAIRS[name][0](Batch(batch))
        kept = said.texts or batch
        result += [text if reason is None else None for text, reason in zip(kept, said.reasons, strict=True)]
    return result


@functools.cache
def datatrove_filter(name: str) -> Any:
    import datatrove.pipeline.filters as filters  # pyright: ignore[reportMissingImports]

    return getattr(filters, PAIRS[name][1])(**PAIRS[name][2])


def decisions_of_datatrove(name: str, texts: Sequence[str]) -> list[str | None]:
    from datatrove.data import Document as Theirs  # pyright: ignore[reportMissingImports]

    rule, result = datatrove_filter(name), list[str | None]()
    for text in texts:
        document = Theirs(text=text, id="")
        result.append(document.text if rule.filter(document) is True else None)
    return result


def compare(texts: Sequence[str]) -> dict[str, int]:
    """Decisions that differ, by rule; some texts at a time, so that datatrove cuts each into words only once."""
    differing = dict.fromkeys(PAIRS, 0)
    for done, text in enumerate(texts):
        for name in PAIRS:
            differing[name] += decisions_of_ours(name, [text]) != decisions_of_datatrove(name, [text])
        if done % 1000 == 999 or done + 1 == len(texts):
            print(f"{done + 1} of {len(texts)} documents, decisions that differ: {differing}", flush=True)
    return differing


def settled_by_bounds(texts: Sequence[str]) -> float:
    """The share of texts of which no test of repetition had to count passages one by one.

    Words are spaCy's in all of them: of those nothing is estimated.
    """
    find, read = repetition._suspects, 0  # pyright: ignore[reportPrivateUsage]

    def noted(bound: Any, sizes: Any, most: float, reasons: list[str | None]) -> list[int]:
        found = find(bound, sizes, most, reasons)
        suspects.update(found)
        return found

    repetition._suspects = noted  # pyright: ignore[reportPrivateUsage]
    try:
        for batch in batches(texts):
            suspects = set[int]()
            GopherRepetition()(Batch(batch))
            read += len(suspects)
    finally:
        repetition._suspects = find  # pyright: ignore[reportPrivateUsage]
    return 1 - read / max(len(texts), 1)


def time_of_ours(texts: Sequence[str]) -> float:
    """Seconds of processor time for the chain, from nothing remembered."""
    forget_words()
    rules = [PAIRS[name][0] for name in CHAIN]
    begin = time.process_time()
    for batch in batches(texts):
        judge(rules, batch)
    return time.process_time() - begin


def time_of_datatrove(texts: Sequence[str]) -> float:
    from datatrove.data import Document as Theirs  # pyright: ignore[reportMissingImports]

    rules = [datatrove_filter(name) for name in CHAIN]
    begin = time.process_time()
    for text in texts:
        document = Theirs(text=text, id="")
        all(rule.filter(document) is True for rule in rules)
    return time.process_time() - begin


def english(folders: Sequence[Path], longest: int) -> list[str]:
    """The English documents below folders; of a benchmark's rows without a `text`, none."""
    texts: list[str] = []
    for file in find_files([str(folder) for folder in folders]):
        for document in read_documents(origin_of(file)):
            if isinstance(document, Document) and document.text.strip() and language_of(document.text)[0] == "en":
                texts.append(document.text[:longest])
    return texts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--also", type=Path, nargs="*", default=[], help="more folders, for the decisions alone")
    parser.add_argument("--spoil", action="store_true")
    parser.add_argument("--timed", type=int, default=8_000_000, help="characters of the corpus that are timed")
    arguments = parser.parse_args()
    corpus = english([arguments.corpus], longest=1 << 30)
    texts = corpus + english(arguments.also, longest=1 << 30)
    rng = random.Random(0)
    texts += [spoiled(text, rng) for text in texts] if arguments.spoil else []
    differing = compare(texts)
    rng.shuffle(corpus)
    timed = corpus[: next((n for n in range(len(corpus)) if sum(map(len, corpus[:n])) > arguments.timed), len(corpus))]
    size = sum(len(text.encode()) for text in timed) / 1e6
    ours, theirs = size / time_of_ours(timed), size / time_of_datatrove(timed)
    print(f"{size:.1f} MB in {len(timed)} documents: ours {ours:.2f} MB/s, datatrove {theirs:.2f} MB/s")
    result = {"vs_datatrove": ours / theirs, "ours_mb_s": ours, "datatrove_mb_s": theirs, "documents": len(texts)}
    bounds = settled_by_bounds(corpus)
    print(json.dumps({**result, "differing": sum(differing.values()), "settled_by_bounds": bounds}))


if __name__ == "__main__":
    main()
