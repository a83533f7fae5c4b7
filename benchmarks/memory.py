"""Peak memory of loading a model and generating with it, beside the size of its weights.

    python -m benchmarks.memory FOLDER

prints one JSON object. Memory in use is RssAnon plus RssFile, sampled every 10 ms: what the process
allocated, and the pages of mapped files that it holds. Linux only.
"""

import argparse
import json
import threading
import time
from pathlib import Path

import jax


def resident() -> dict[str, int]:
    """Bytes in memory now, by kind: `RssAnon` and `RssFile`."""
    rows = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return {row[0].rstrip(":"): int(row[1]) * 1024 for row in rows if row[0] in ("RssAnon:", "RssFile:")}


class Peak(threading.Thread):
    """Samples the memory in use until stopped."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak, self.stopped = 0, threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.01):
            self.peak = max(self.peak, sum(resident().values()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--prompt", type=int, default=300, help="tokens of the prompt")
    parser.add_argument("--new", type=int, default=16, help="tokens to generate")
    arguments = parser.parse_args()
    sampler = Peak()
    sampler.start()
    import gemwright

    started = time.perf_counter()
    model = gemwright.load(arguments.folder)
    loaded = time.perf_counter()
    tokens = [2, *range(1000, 1000 + arguments.prompt - 1)]
    ids = model.generate_ids(tokens, arguments.new, stop_ids=())
    generated = time.perf_counter()
    model.generate_ids(tokens[:16], 1, stop_ids=())
    short = time.perf_counter()
    model.generate_ids(tokens[:16], 1 + arguments.new, stop_ids=())
    again = time.perf_counter()
    sampler.stopped.set()
    weights = sum(leaf.nbytes for leaf in jax.tree.leaves(model.weights))
    print(
        json.dumps(
            {
                "weights_bytes": weights,
                "peak_bytes": sampler.peak,
                "peak_over_weights": round(sampler.peak / weights, 3),
                "load_seconds": round(loaded - started, 2),
                "first_generation_seconds": round(generated - loaded, 2),
                "decode_tokens_per_second": round(arguments.new / ((again - short) - (short - generated)), 2),
                "tokens": len(ids),
            }
        )
    )


if __name__ == "__main__":
    main()
