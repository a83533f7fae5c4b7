"""How much memory a run over a large corpus takes: two gigabytes of text in under one.

    python -m benchmarks.data_memory write --corpus FOLDER --out FOLDER --gigabytes 2
    python -m benchmarks.data_memory run --input FOLDER --out FOLDER [--tokenizer FILE] [--growing]

The first writes a corpus from a smaller one: its documents cut to the sizes of web pages, a quarter of the words of
each replaced, so that no two are nearly equal, but for one in 40 that is a copy and one in 40 that is nearly one. The
second carries out `recipes/documents.py` and prints each step's time and the largest memory of the process and its
children together, sampled ten times a second. With --growing only the steps whose work grows with all documents
together: without the filters, which see some at a time. Last line JSON.
"""

import argparse
import json
import random
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from gemwright.data.documents import read_folder
from gemwright.data.pipeline.run import run_recipe
from gemwright.data.step import Global
from recipes.documents import recipe

REPLACED, COPIED = 0.25, 0.025
SHORTEST, LONGEST = 600, 6000  # characters of a document
FILE = 100 << 20  # bytes of text in a file


def pieces(corpus: Path) -> list[list[str]]:
    """The corpus as documents of many sizes, each a list of its words."""
    rng = random.Random(0)
    found: list[list[str]] = []
    for document in read_folder(corpus):
        at, text = 0, document.text
        while text.isascii() and len(text) - at >= SHORTEST:
            size = min(int(SHORTEST * (LONGEST / SHORTEST) ** rng.random()), len(text) - at)
            found.append(text[at : at + size].split(" "))
            at += size
    return found


def documents(corpus: Path, size: int) -> Iterator[str]:
    """Texts of so many bytes together."""
    found, rng = pieces(corpus), random.Random(1)
    vocabulary = sorted({word for words in found for word in words if word.isalpha()})
    before: list[str] = []
    while size > 0:
        if before and rng.random() < COPIED:
            text = rng.choice(before)
        elif before and rng.random() < COPIED:
            text = changed(rng.choice(before).split(" "), 0.04, vocabulary, rng)
        else:
            text = changed(rng.choice(found), REPLACED, vocabulary, rng)
        before = [*before[-999:], text]
        size -= len(text)
        yield text


def changed(words: list[str], share: float, vocabulary: list[str], rng: random.Random) -> str:
    words = list(words)
    for place in rng.choices(range(len(words)), k=int(share * len(words))):
        if words[place].isalpha():
            words[place] = rng.choice(vocabulary)
    return " ".join(words)


def write(corpus: Path, out: Path, gigabytes: float) -> None:
    import io

    import zstandard

    out.mkdir(parents=True, exist_ok=True)
    texts = documents(corpus, int(gigabytes * 1e9))
    text: str | None = next(texts)
    number, whole = 0, 0
    while text is not None:
        size, path = 0, out / f"{number:03d}.jsonl.zst"
        with path.open("wb") as raw, io.TextIOWrapper(zstandard.ZstdCompressor(3).stream_writer(raw)) as file:
            while text is not None and size < FILE:
                file.write(json.dumps({"text": text}) + "\n")
                size += len(text)
                text = next(texts, None)
        number, whole = number + 1, whole + size
        print(f"{path}: {whole / 1e9:.2f} GB", flush=True)


class Watch(threading.Thread):
    """Memory of this process and its children together, now and at most."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.now = self.peak = 0

    def run(self) -> None:
        import psutil  # pyright: ignore[reportMissingModuleSource]

        this = psutil.Process()
        while True:
            total = 0
            for process in (this, *this.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.NoSuchProcess:
                    continue
            self.now, self.peak = total, max(self.peak, total)
            time.sleep(0.1)


def carry_out(inputs: Path, out: Path, tokenizer: str | None, growing: bool) -> None:
    watch, begin = Watch(), time.time()
    watch.start()

    def progress(name: str, done: int, total: int) -> None:
        memory = f"{watch.now / 1e6:.0f} MB, {watch.peak / 1e6:.0f} at most so far"
        print(f"{time.time() - begin:7.0f} s  {name} {done}/{total}: {memory}", flush=True)

    whole = replace(recipe(), inputs=(str(inputs),), tokenizer=tokenizer)
    if growing:
        whole = replace(whole, steps=tuple(step for step in whole.steps if isinstance(step, Global)))
    finished = run_recipe(whole, out, progress=progress)
    summary = finished.summary() | {"peak_mb": watch.peak / 1e6, "seconds": time.time() - begin}
    print(json.dumps(summary))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    writing, running = commands.add_parser("write"), commands.add_parser("run")
    writing.add_argument("--corpus", type=Path, required=True)
    writing.add_argument("--out", type=Path, required=True)
    writing.add_argument("--gigabytes", type=float, default=2.0)
    running.add_argument("--input", type=Path, required=True)
    running.add_argument("--out", type=Path, required=True)
    running.add_argument("--tokenizer")
    running.add_argument("--growing", action="store_true")
    given = parser.parse_args()
    if given.command == "write":
        write(given.corpus, given.out, given.gigabytes)
    else:
        carry_out(given.input, given.out, given.tokenizer, given.growing)


if __name__ == "__main__":
    main()
