"""The quality model that comes with the package, learned from labelled examples of good text and bad.

    python -m recipes.quality --corpus FOLDER --data FOLDER --spam SMSSpamCollection --out src/.../rules/quality.npz

Good is what people wrote to be read: books, stories, speeches, encyclopaedia articles, answers that others ranked
first, the readme files of installed packages, Python's standard library. Bad is in part real: advertisements by text
message (labelled by people), the furniture of web pages around their main text, their source. No set of bad web pages
that may be used lies at hand, so the rest is made from good text by what spoils pages: lists of keywords, menus,
teasers, words shuffled, letters damaged, wrong encodings, tables and logs.

A fifth of the texts, by their hash, is held out (of the few pages, of their parts). Prints how well sides are told
apart, source by source; what share of ordinary text, some from sources never learned from, the threshold would drop;
and with --left-out how well each bad kind is known that was left out of the learning.
"""

import argparse
import base64
import json
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from importlib.metadata import distributions
from pathlib import Path

import numpy as np

from gemwright.data.documents import read_json_lines, standard_library
from gemwright.data.reading.pages import main_text
from gemwright.data.rules.learned import LinearModel, area_under_curve, is_held_out, learn

PART = 500  # characters, as the rule scores them
MOST = 1200  # parts of a source
CORPUS = ("books_en", "tinystories", "speeches_en", "wiki_en")


@dataclass(frozen=True)
class Example:
    """A part of a text, where it is from, whether it is good, and whether its whole text is held out."""

    text: str
    source: str
    good: bool
    held: bool


def parts_of(text: str) -> list[str]:
    return [text[k : k + PART] for k in range(0, max(len(text) - PART // 2, 1), PART)]


def shortened(example: Example, rng: random.Random) -> Example:
    """One in three a short text: the last part of a document may have any length."""
    return replace(example, text=example.text[: rng.randint(120, PART)]) if rng.random() < 1 / 3 else example


def good_texts(corpus: Path, data: Path) -> Iterator[tuple[str, str]]:
    """Sources and texts."""
    for source in CORPUS:
        for document in read_json_lines(corpus / f"{source}.jsonl.zst"):
            yield source, document.text
    for line in (data / "oasst1" / "en_validation.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if row["role"] == "assistant" and row["rank"] == 0 and row["review_result"] and not row["deleted"]:
            yield "answers", row["text"]
    for package in distributions():
        yield "readme", (package.read_text("METADATA") or "").partition("\n\n")[2]
    for document in standard_library():
        yield "python_code", document.text


def keywords(text: str, rng: random.Random) -> str:
    words = [word.strip(".,;:!?\"'()").lower() for word in text.split() if len(word) > 3]
    return rng.choice([", ", " | ", " ", "\n", " #"]).join(rng.sample(words, len(words)))


def menu(text: str, rng: random.Random) -> str:
    words = [word.strip(".,;:!?\"'()") for word in text.split() if word.isalpha()]
    entries = [" ".join(words[k : k + rng.randint(1, 3)]).title() for k in range(0, len(words), 3)]
    return rng.choice(["\n", " | ", " » ", "  ", "\n- "]).join(entries)


def teasers(text: str, rng: random.Random) -> str:
    words, more = text.split(), rng.choice(["Read more", "Continue reading", "[...]", "More »", "(more)"])
    return "\n".join(" ".join(words[k : k + rng.randint(5, 9)]) + f"... {more}" for k in range(0, len(words), 9))


def shuffled(text: str, rng: random.Random) -> str:
    words = text.split()
    return " ".join(rng.sample(words, len(words)))


def damaged(text: str, rng: random.Random) -> str:
    """As a bad scan is read."""
    share = rng.uniform(0.06, 0.2)
    letters = "abcdefghijklmnopqrstuvwxyz01|!;:.,~^ "
    return "".join(rng.choice(letters) if rng.random() < share else letter for letter in text)


def misdecoded(text: str, rng: random.Random) -> str:
    """Letters of other alphabets read in the wrong encoding, twice."""
    words = [word if rng.random() < 0.6 else word.translate(_ACCENTS) for word in text.split(" ")]
    return " ".join(words).encode().decode("cp1252", "replace").encode().decode("cp1252", "replace")


_ACCENTS = str.maketrans({"a": "á", "e": "é", "i": "î", "o": "ö", "u": "ü", "n": "ñ", "'": "’", '"': "“"})


def table(text: str, rng: random.Random) -> str:
    """Numbers, dates, prices, times with a word here and there."""
    words, rows = text.split(), list[str]()
    while sum(map(len, rows)) < PART:
        cells = [rng.choice(CELLS)(rng) if rng.random() < 0.8 else rng.choice(words) for _ in range(6)]
        rows.append(rng.choice(["\t", " | ", ", ", " "]).join(cells))
    return "\n".join(rows)


CELLS: tuple[Callable[[random.Random], str], ...] = (
    lambda rng: f"{rng.uniform(0, 999):.2f}",
    lambda rng: f"${rng.randint(1, 99)}.99",
    lambda rng: f"{rng.randint(0, 10**6)}",
    lambda rng: f"{rng.randint(1990, 2026)}-{rng.randint(1, 12):02d}-{rng.randint(1, 28):02d}",
    lambda rng: f"{rng.randint(0, 23)}:{rng.randint(0, 59):02d}",
)


def log(text: str, rng: random.Random) -> str:
    """What machines write: codes and times."""
    code = base64.b64encode(rng.randbytes(400)).decode()
    stamps = [f"[{rng.randint(0, 10**9)}] {rng.choice(['INFO', 'WARN', 'ERROR'])} 0x{rng.getrandbits(32):08x}: "
              + " ".join(rng.sample(text.split(), min(3, len(text.split())))) for _ in range(9)]  # fmt: skip
    return rng.choice([code, "\n".join(stamps), rng.randbytes(250).hex(" ")])


MAKERS = (keywords, menu, teasers, shuffled, damaged, misdecoded, table, log)


def page_texts(data: Path) -> Iterator[tuple[str, str]]:
    """Real pages: what stands around their main text, and their source."""
    from resiliparse.extract.html2text import extract_plain_text

    for path in sorted((data / "trafilatura_html").glob("*.html")):
        raw = path.read_bytes()
        source = raw.decode("utf-8", "replace")
        main = set(main_text(raw).splitlines())
        lines = str(extract_plain_text(source, main_content=False, links=False)).splitlines()
        yield "furniture", "\n".join(line for line in lines if line not in main)
        yield "markup", source


def spam(path: Path) -> Iterator[tuple[str, str]]:
    """Messages labelled as advertisements, some together so that they fill a part."""
    rows = [line.partition("\t") for line in path.read_text(encoding="utf-8", errors="replace").splitlines()]
    messages = [text for label, _, text in rows if label == "spam"]
    for k in range(0, len(messages), 3):
        yield "advertisements", "\n".join(messages[k : k + 3])


def examples(corpus: Path, data: Path, messages: Path) -> list[Example]:
    rng = random.Random(0)
    found: list[Example] = []
    for source, text in good_texts(corpus, data):
        held = is_held_out(text)
        found += [Example(part, source, True, held) for part in parts_of(text) if len(part.split()) > 20]
    found = thinned(found, rng)
    for n, example in enumerate(rng.sample(found, min(len(found), 7000))):
        maker = MAKERS[n % len(MAKERS)]
        found.append(Example(maker(example.text, rng)[:PART], maker.__name__, False, example.held))
    for source, text in (*page_texts(data), *spam(messages)):
        found += [Example(part, source, False, is_held_out(part)) for part in parts_of(text) if part.strip()]
    return [shortened(example, rng) for example in thinned(found, rng)]


def thinned(found: list[Example], rng: random.Random) -> list[Example]:
    """No more than MOST of a source."""
    sources = sorted({example.source for example in found})
    apart = {source: [example for example in found if example.source == source] for source in sources}
    return [example for rows in apart.values() for example in rng.sample(rows, min(len(rows), MOST))]


def unseen(data: Path) -> Iterator[tuple[str, list[str]]]:
    """Ordinary texts of sources that nothing was learned from."""
    rows = (data / "real_toxicity_prompts" / "val_first1000.jsonl").read_text(encoding="utf-8").splitlines()
    mild = [row for row in map(json.loads, rows) if (row["prompt"]["toxicity"] or 1) < 0.25]
    yield "web sentences", [f"{row['prompt']['text']}{row['continuation']['text']}" for row in mild]
    lines = (data / "ud_pud" / "en.tsv").read_text(encoding="utf-8").splitlines()
    sentences = [line.partition("\t")[2] for line in lines]
    yield "news and articles", [" ".join(sentences[k : k + 4]) for k in range(0, len(sentences), 4)]


def report(model: LinearModel, held: list[Example], data: Path, threshold: float) -> None:
    scores = model.scores([example.text for example in held])
    labels = np.array([example.good for example in held])
    print(f"{len(held)} parts held out: area under the curve {area_under_curve(scores, labels):.4f}")
    for source in sorted({example.source for example in held}):
        own = np.array([example.source == source for example in held])
        good = bool(labels[own][0])
        against = own | (labels != good)
        area = area_under_curve(scores[against], labels[against])
        low = (scores[own] < threshold).mean()
        print(f"  {'good' if good else 'bad '} {source}: {own.sum()} parts, area {area:.4f}, dropped {low:.3f}")
    for name, texts in unseen(data):
        print(f"  never seen, good: {name}: {len(texts)}, dropped {(model.scores(texts) < threshold).mean():.3f}")


def left_out(seen: list[Example], held: list[Example]) -> None:
    """How well a kind of bad text is told from good that the model was never shown."""
    for source in sorted({example.source for example in seen if not example.good}):
        rest = [example for example in seen if example.source != source]
        model = learn([example.text for example in rest], [example.good for example in rest])
        test = [example for example in held if example.good or example.source == source]
        area = area_under_curve(model.scores([e.text for e in test]), np.array([e.good for e in test]))
        print(f"  without {source} among the examples: area {area:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--spam", type=Path, required=True, help="of the SMS Spam Collection (Almeida et al. 2011)")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--threshold", type=float, default=0.2)
    parser.add_argument("--left-out", action="store_true", help="also learn without each bad kind; takes minutes")
    given = parser.parse_args()
    found = examples(given.corpus, given.data, given.spam)
    held = [example for example in found if example.held]
    seen = [example for example in found if not example.held]
    model = learn([example.text for example in seen], [example.good for example in seen])
    report(model, held, given.data, given.threshold)
    model.save(given.out)
    print(f"{given.out}: {given.out.stat().st_size:,} bytes", flush=True)
    if given.left_out:
        left_out(seen, held)


if __name__ == "__main__":
    main()
