"""Held-out bits per byte of a model, beside `xz -9` and a Kneser-Ney 5-gram on the same text and tokens.

    python -m benchmarks.held_out --corpus FOLDER [--model FOLDER]

prints one JSON object. Every byte of the held-out documents counts, and each document's end.
"""

import argparse
import json
import lzma
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

import gemwright
from benchmarks.kneser_ney import KneserNey
from gemwright.data.documents import Document
from gemwright.data.packing import pack
from gemwright.text.tokenizer import Tokenizer
from gemwright.training.step import token_losses
from recipes.mini import documents

WINDOW = 512  # tokens the model sees at once
STRIDE = 256  # each token but a document's first ones has at least this many before it


def model_bits(model: gemwright.Model, stream: np.ndarray) -> float:
    """Bits that the tokens of a stream cost, each document read in overlapping windows."""
    bos = model.tokenizer.bos_id
    starts = np.flatnonzero(stream == bos)
    ends = [*starts[1:], len(stream)]
    windows = [window for start, end in zip(starts, ends, strict=True) for window in _windows(stream[start:end])]
    losses = jax.jit(token_losses, static_argnames="config")
    total = 0.0
    for first in range(0, len(windows), 16):
        part = windows[first : first + 16]
        rows = np.stack([row for row, _ in part] + [part[0][0]] * (16 - len(part)))
        nats = np.asarray(
            losses(model.weights, jnp.asarray(rows[:, :-1]), jnp.asarray(rows[:, 1:]), config=model.config)
        )
        total += sum(nats[index][counted].sum() for index, (_, counted) in enumerate(part))
    return float(total / np.log(2))


def _windows(document: np.ndarray):
    """Rows of WINDOW + 1 tokens, and which of their targets are counted: each once."""
    done = 1
    while done < len(document):
        start = max(0, min(done - STRIDE, len(document) - WINDOW - 1))
        row = document[start : start + WINDOW + 1]
        targets = np.arange(start + 1, start + WINDOW + 1)
        counted = (targets >= done) & (targets < len(document))
        yield np.pad(row, (0, WINDOW + 1 - len(row))).astype(np.int32), counted
        done = start + len(row)


def measure(model: gemwright.Model, found: list[Document]) -> dict[str, object]:
    tokenizer = model.tokenizer
    trained = _stream([d for d in found if d.split == "train"], tokenizer)
    classical = KneserNey(trained, tokenizer.vocab_size, tokenizer.bos_id)
    results: dict[str, object] = {}
    corpus = [d for d in found if d.split == "heldout" and d.source != "python_code"]
    code = [d for d in found if d.split == "heldout" and d.source == "python_code"]
    for name, part in (("corpus", corpus), ("python_code", code)):
        size = sum(len(d.text.encode()) for d in part)
        stream = _stream(part, tokenizer)
        packed = lzma.compress("".join(d.text for d in part).encode(), preset=9)
        model_share, classical_share = model_bits(model, stream) / size, classical.bits_of(stream) / size
        results[name] = {
            "documents": len(part),
            "bytes": size,
            "tokens": len(stream) - len(part),
            "model": round(model_share, 4),
            "kneser_ney_5": round(classical_share, 4),
            "xz_9": round(8 * len(packed) / size, 4),
            "below_kneser_ney": round(1 - model_share / classical_share, 4),
        }
    return results


def _stream(part: list[Document], tokenizer: Tokenizer) -> np.ndarray:
    texts = ([tokenizer.bos_id, *tokenizer.encode(d.text), tokenizer.eos_id] for d in part)
    return pack(texts, tokenizer.bos_id, tokenizer.vocab_size)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path, required=True, help="folder of the corpus that was trained on")
    parser.add_argument("--model", help="folder of the model; the default model if left out")
    arguments = parser.parse_args()
    print(json.dumps(measure(gemwright.load(arguments.model, dtype="float32"), documents(arguments.corpus))))


if __name__ == "__main__":
    main()
