"""The toxicity model that comes with the package, learned from texts that have scores of how toxic people find them.

    python -m recipes.toxicity --data FOLDER --corpus FOLDER --out src/gemwright/data/rules/toxicity.npz

The first folder holds `real_toxicity_prompts/` (prompts and continuations with scores), the second is ordinary prose,
which keeps old books and news from being taken for toxic. A fifth of the scored texts, chosen by their hash, is
held out; prints how well they are told apart. Takes half a minute.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from gemwright.data.documents import read_folder
from gemwright.data.rules.learned import LinearModel, area_under_curve, is_held_out, learn

TOXIC, HARMLESS = 0.6, 0.25  # scores between are neither
PIECE = 400  # characters of ordinary prose


def scored(folder: Path) -> Iterator[tuple[str, bool]]:
    """Texts that are clearly toxic or clearly not."""
    for path in sorted((folder / "real_toxicity_prompts").glob("*.jsonl")):
        for line in path.read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            for part in (row["prompt"], row["continuation"]):
                score = part.get("toxicity")
                if score is not None and (score >= TOXIC or score <= HARMLESS):
                    yield part["text"], score >= TOXIC


def prose(corpus: Path, one_in: int) -> list[str]:
    """Short pieces of ordinary text."""
    rows = [d.text for d in read_folder(corpus) if d.text.isascii()]
    pieces = [text[k : k + PIECE] for text in rows for k in range(0, min(len(text), 20 * PIECE), PIECE)]
    return [piece for piece in pieces if hashlib.sha256(piece.encode()).digest()[1] % one_in == 0]


def report(model: LinearModel, texts: list[str], labels: np.ndarray, ordinary: list[str]) -> None:
    scores = model.scores(texts)
    area = area_under_curve(scores, labels)
    print(f"{len(texts)} texts held out, {labels.sum()} of them toxic: area under the curve {area:.3f}")
    for threshold in (0.5, 0.8, 0.85, 0.9):
        high = scores > threshold
        precision = labels[high].mean() if high.any() else float("nan")
        plain = (model.scores(ordinary) > threshold).mean()
        line = f"above {threshold}: recall {high[labels].mean():.3f}, precision {precision:.3f}"
        print(f"{line}; of ordinary prose {plain:.4f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--corpus", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    examples = list(scored(arguments.data))
    held = [example for example in examples if is_held_out(example[0])]
    seen = [example for example in examples if not is_held_out(example[0])]
    ordinary = prose(arguments.corpus, 10)
    half = len(ordinary) // 2
    texts = [text for text, _ in seen] + ordinary[:half]
    model = learn(texts, [label for _, label in seen] + [False] * half)
    report(model, [text for text, _ in held], np.array([label for _, label in held]), ordinary[half:])
    model.save(arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
