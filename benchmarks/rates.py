"""The best rate by width: what the rate of `recipes/sized.py` rests on.

    python -m benchmarks.rates --out FOLDER [--corpus FOLDER] [--sizes 1M 4M 10M] [--factors 0.5 1 2] [--tokens 1000000]

Each size of `recipes/sized.py` is trained with its own rate times each factor, on the same tokens in the same order,
and examined on held-out text. The rule holds where the factor 1 is the best or beside the best within the noise at
every size. Runs that are done are not made again. The last line is one JSON object: nats a token by
size and factor.
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from gemwright.checkpoints.load import load_checkpoint
from gemwright.training.pretrain import Pretraining, pretrain
from gemwright.training.run_report import losses_by_position
from recipes import mini, sized

VOCABULARY = 4096
HELD_OUT = 200_000  # tokens


def recipe(size: str, factor: float, tokens: int, corpus: Path | None, data: Path) -> Pretraining:
    """`recipes/sized.py`, at another rate and with the streams of `data`."""
    chosen = sized.pretraining(size, corpus, tokens)
    optimizer = replace(chosen.run.optimizer, lr=factor * chosen.run.optimizer.lr)
    return Pretraining(replace(chosen.run, optimizer=optimizer), lambda run, _: mini.read(corpus, data, VOCABULARY))


def measure(size: str, factor: float, tokens: int, corpus: Path | None, out: Path) -> float:
    """Nats a held-out token after training in a folder of its own, or as found there."""
    folder = out / f"{size}-{factor:g}"
    done = folder / "held_out.json"
    if not done.exists():
        chosen = recipe(size, factor, tokens, corpus, out)
        loaded = load_checkpoint(pretrain(chosen, folder), dtype="float32")
        held_out = chosen.read(chosen.run, out).held_out
        assert held_out is not None, "the corpus is too small to hold anything out"
        curve = losses_by_position(chosen.run, loaded.weights, held_out, HELD_OUT)
        counts = sum(count for *_, count in curve)
        done.write_text(json.dumps(sum(loss * count for *_, loss, count in curve) / counts))
    return float(json.loads(done.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument(
        "--corpus", type=Path, help="a folder of text files or JSON lines; the standard library unless given"
    )
    parser.add_argument("--sizes", nargs="+", default=["1M", "4M", "10M"])
    parser.add_argument("--factors", type=float, nargs="+", default=[0.5, 1.0, 2.0])
    parser.add_argument("--tokens", type=int, default=1_000_000)
    arguments = parser.parse_args()
    found: dict[str, dict[str, float]] = {}
    for size in arguments.sizes:
        for factor in arguments.factors:
            loss = measure(size, factor, arguments.tokens, arguments.corpus, arguments.out)
            found.setdefault(size, {})[f"{factor:g}"] = round(loss, 4)
            width, rate = (
                sized.shape(sized.parse_size(size)).embed_dim,
                sized.run(sized.parse_size(size), False).optimizer.lr,
            )
            Console(stderr=True).print(
                f"{size}: width {width}, rate {factor * rate:.2e}: {loss:.4f} nats", soft_wrap=True
            )
    print(json.dumps(found))


if __name__ == "__main__":
    main()
