"""Decoding and prefill on this CPU beside llama.cpp, on random weights of one shape and as many bytes.

    python -m benchmarks.cpu --shape 2b --bits 4 --baseline BASELINE.py --python PYTHON [--rounds 5]

BASELINE prints one JSON line of llama.cpp's figures (`prefill_tok_s`, `decode_tok_s`, `batch_decode_tok_s`); PYTHON is
an interpreter that has llama-cpp-python. Both run in turn, each in a process of its own, between readings of the
machine's bandwidth. The last line is one JSON object; medians and ratios of medians. Without a baseline, ours alone.
"""

import argparse
import concurrent.futures
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from gemwright.core.module import Spec, map_specs
from gemwright.core.packed import Packed
from gemwright.inference.generate import decode
from gemwright.inference.session import Session
from gemwright.kernels.packed_product import GROUP, TILE
from gemwright.models.gemma import PRESETS, Config, Gemma

SHAPES = {"2b": "gemma-2b", "7b": "gemma-7b"}
PROMPT, STEPS, SEQUENCES, WARM = 512, 32, 8, 4

# ---------------------------------------------------------------------------------------- ours


def random_packed(config: Config, bits: int) -> Gemma:
    """Codes of every value, and scales that keep activations in range; norms are those of a new model."""
    pattern = np.frombuffer(np.random.default_rng(0).bytes(1 << 20), np.uint8)
    pattern = np.where(pattern == 128, 127, pattern).astype(np.uint8) if bits == 8 else pattern

    def draw(_: str, spec: Spec) -> Any:
        if len(spec.shape) < 2:
            return jnp.zeros(spec.shape, jnp.bfloat16)
        tiles, groups = -(-spec.size // spec.fan_in // TILE), -(-spec.fan_in // GROUP)
        codes = np.resize(pattern, (tiles, groups, 64 * bits))
        deviation = {4: 4.6, 8: 74.0}[bits]  # of the codes
        scales = np.full((tiles, groups, TILE), 1 / (deviation * np.sqrt(spec.fan_in)), np.float16)
        return Packed(jnp.asarray(codes), jnp.asarray(scales), spec.shape)

    return map_specs(draw, Gemma.specs(config))


def seconds_of(action: Callable[[], Any]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def prefill(weights: Gemma, config: Config) -> Session:
    session = Session(weights, config, 1, PROMPT + STEPS + WARM)
    session.extend([list(range(100, 100 + PROMPT))])
    session.state.last.block_until_ready()
    return session


def step_seconds(session: Session) -> float:
    """Median time of a step, the first ones left out."""
    steps = decode(session, STEPS + WARM)
    return median([seconds_of(lambda: next(steps)) for _ in range(STEPS + WARM - 1)][WARM:])


def measure(shape: str, bits: int) -> dict[str, float]:
    """Tokens a second of prefill (best of 3), of decoding after it, and of several sequences at once."""
    config = PRESETS[SHAPES[shape]]
    weights = random_packed(config, bits)
    prefill(weights, config)  # compiles
    reading = min(seconds_of(lambda: prefill(weights, config)) for _ in range(3))
    single = step_seconds(prefill(weights, config))
    together = Session(weights, config, SEQUENCES, STEPS + WARM)
    together.extend([[100]] * SEQUENCES)
    return {
        "bytes": sum(leaf.nbytes for leaf in jax.tree.leaves(weights)),
        "prefill_tok_s": PROMPT / reading,
        "decode_tok_s": 1 / single,
        "batch_decode_tok_s": SEQUENCES / step_seconds(together),
    }


# ------------------------------------------------------------------------------------- the machine


def bandwidth(size: int = 1 << 29) -> float:
    """Bytes a second that all processors read together, each its part of memory beyond every cache."""
    processors = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    parts = np.ones((processors, size // 8 // processors), np.int64)

    def read() -> None:
        with concurrent.futures.ThreadPoolExecutor(processors) as pool:
            list(pool.map(np.max, parts))

    read()
    return parts.nbytes / min(seconds_of(read) for _ in range(5))


# ---------------------------------------------------------------------------------------- in turns


def in_turns(arguments: argparse.Namespace) -> dict[str, Any]:
    options = ["--shape", arguments.shape, "--bits", str(arguments.bits)]
    commands = {"ours": [sys.executable, "-m", "benchmarks.cpu", "--only", *options]}
    if arguments.baseline:
        commands["theirs"] = [arguments.python, arguments.baseline, *options]
    figures: dict[str, list[dict[str, float]]] = {name: [] for name in commands}
    bandwidths = [bandwidth()]
    for number in range(arguments.rounds):
        for name, command in commands.items():
            found = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            figures[name].append(json.loads(found.splitlines()[-1]))
            bandwidths.append(bandwidth())
            line = {key: value for key, value in figures[name][-1].items() if key.endswith("tok_s")}
            Console(stderr=True).print(f"round {number + 1} {name} {line}, then {bandwidths[-1] / 1e9:.1f} GB/s")
    return summary(figures, bandwidths)


def summary(figures: dict[str, list[dict[str, float]]], bandwidths: list[float]) -> dict[str, Any]:
    def typical(name: str, key: str) -> float:
        return median(run[key] for run in figures[name])

    result: dict[str, Any] = {"rounds": len(figures["ours"]), "bandwidth_gb_s": round(median(bandwidths) / 1e9, 1)}
    used = typical("ours", "decode_tok_s") * typical("ours", "bytes")
    result["bandwidth_share"] = round(used / median(bandwidths), 3)
    keys = {"prefill": "prefill_tok_s", "decode": "decode_tok_s", "batch8": "batch_decode_tok_s"}
    for short, key in keys.items():
        result[f"{short}_tok_s"] = round(typical("ours", key), 2)
        if "theirs" in figures:
            result[f"{short}_ratio"] = round(typical("ours", key) / typical("theirs", key), 3)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="2b")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=4)
    parser.add_argument("--baseline", help="script that measures llama.cpp")
    parser.add_argument("--python", default=sys.executable, help="interpreter for the baseline")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", action="store_true", help="ours, once")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.shape, arguments.bits) if arguments.only else in_turns(arguments)))


if __name__ == "__main__":
    main()
