"""What a longer text costs: cache, memory and speed of decoding after 2K, 16K and 64K tokens.

    python -m benchmarks.long_texts [--lengths 2048 16384 65536] [--shape recurrentgemma-2b]

Random weights: of a RecurrentGemma and a Gemma 2 a tenth as wide as the published ones, with their windows; or 4-bit
weights of a preset's shape. Each case runs in a process of its own, with its programs compiled by one before. The last
line is one JSON object with a list of cases.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
from rich.console import Console
from rich.table import Table

from gemwright.bench.random_model import random_packed
from gemwright.bench.speed import prompt_ids
from gemwright.compilation import cache_compilations
from gemwright.core.module import initialise
from gemwright.inference.generate import decode
from gemwright.inference.session import Session
from gemwright.models.family import PRESETS, Config, specs_of
from gemwright.models.gemma import gemma2
from gemwright.models.griffin import Config as Griffin

_SIZES: dict[str, int] = {"vocab_size": 4096, "embed_dim": 256, "num_layers": 6, "head_dim": 128, "mlp_dim": 768}
SMALL: dict[str, Config] = {
    "recurrentgemma": Griffin(**_SIZES, num_heads=2, num_kv_heads=1, recurrent_dim=256),  # pyright: ignore
    "gemma2": gemma2(**_SIZES, num_heads=2, num_kv_heads=1, max_positions=1 << 17),
}
_STEPS, _WARM = 24, 4


def measure(name: str, length: int) -> dict[str, Any]:
    """Of this process: bytes of the cache, its peak memory beyond what the model took, milliseconds a token."""
    cache_compilations()
    config = SMALL[name] if name in SMALL else PRESETS[name]
    specs = specs_of(config)
    weights = initialise(specs, 0, jnp.bfloat16) if name in SMALL else random_packed(specs, 4)
    jax.block_until_ready(weights)
    before = _peak()
    session = Session(weights, config, 1, length + _STEPS)
    session.extend([prompt_ids(config, length)])
    steps, times = decode(session, _STEPS), list[float]()
    for _ in range(_STEPS):
        begun = time.perf_counter()
        next(steps)
        times.append(time.perf_counter() - begun)
    return {
        "model": name,
        "tokens": length,
        "cache_bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(session.state)),
        "peak_bytes": _peak() - before,
        "ms_a_token": 1000 * median(times[_WARM:]),
    }


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _in_a_process(name: str, length: int) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.long_texts", "--case", name, str(length)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lengths", type=int, nargs="+", default=[2048, 16_384, 65_536])
    parser.add_argument("--shape", choices=PRESETS, help="a preset's, in place of the two small ones")
    parser.add_argument("--case", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.case:
        print(json.dumps(measure(arguments.case[0], int(arguments.case[1]))))
        return
    names = [arguments.shape] if arguments.shape else list(SMALL)
    found = [_in_a_process(name, length) for name in names for length in arguments.lengths for _ in range(2)][1::2]
    table = Table("model", "tokens", "cache", "peak beyond the model", "a token")
    for case in found:
        sizes = (f"{case[key] / 1e6:,.1f} MB" for key in ("cache_bytes", "peak_bytes"))
        table.add_row(case["model"], f"{case['tokens']:,}", *sizes, f"{case['ms_a_token']:.2f} ms")
    Console(stderr=True).print(table)
    print(json.dumps({"cases": found}))


if __name__ == "__main__":
    main()
