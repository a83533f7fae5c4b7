"""Decoding and prefill on this CPU beside llama.cpp, on random weights of one shape and as many bytes.

    python -m benchmarks.cpu --shape 2b --bits 4 --baseline BASELINE.py --python PYTHON [--rounds 5]

BASELINE prints one JSON line of llama.cpp's figures (`prefill_tok_s`, `decode_tok_s`, `batch_decode_tok_s`); PYTHON is
an interpreter that has llama-cpp-python. Both run in turn, each in a process of its own, and before and after each the
mapped weights are read from end to end by all threads. Then come the first token of a cold process and the peak of
memory. The last line is one JSON object; medians and ratios of medians. Without a baseline, ours alone.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import jax
from rich.console import Console

import gemwright
from gemwright.bench.cold import first_token_seconds, peak_memory
from gemwright.bench.random_model import write_random_model
from gemwright.bench.speed import Machine, measure_decode, measure_prefill, weight_bytes
from gemwright.kernels.machine_limits import read_bandwidth
from gemwright.models.gemma import PRESETS

SHAPES = {"2b": "gemma-2b", "7b": "gemma-7b"}
PROMPT, STEPS, SEQUENCES = 512, 32, 8
UNLIMITED = Machine(float("inf"), None, "int8")  # shares are computed from the bandwidth around each run

Figures = dict[str, float]


def measure(folder: str) -> Figures:
    """Tokens a second of prefill, of decoding after it, and of several sequences at once."""
    model = gemwright.load(folder)
    weights, config = model.weights, model.config
    prefill = measure_prefill(weights, config, UNLIMITED, PROMPT)
    single = measure_decode(weights, config, UNLIMITED, PROMPT, STEPS)
    together = measure_decode(weights, config, UNLIMITED, 1, STEPS, SEQUENCES)
    return {
        "prefill_tok_s": prefill.tokens_per_second,
        "decode_tok_s": single.tokens_per_second,
        "batch_decode_tok_s": together.tokens_per_second,
    }


def in_turns(folder: str, arguments: argparse.Namespace) -> tuple[dict[str, list[Figures]], dict[str, list[float]]]:
    """Figures by engine, and the bandwidth around each run: the mean of before and after."""
    commands = {"ours": [sys.executable, "-m", "benchmarks.cpu", "--only", folder]}
    if arguments.baseline:
        options = ["--shape", arguments.shape, "--bits", str(arguments.bits)]
        commands["theirs"] = [arguments.python, arguments.baseline, *options]
    figures: dict[str, list[Figures]] = {name: [] for name in commands}
    around: dict[str, list[float]] = {name: [] for name in commands}
    mapped = jax.tree.leaves(gemwright.load(folder).weights)
    before = read_bandwidth(mapped)
    for number in range(arguments.rounds):
        for name, command in commands.items():
            found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
            after = read_bandwidth(mapped)
            figures[name].append(json.loads(found.splitlines()[-1]))
            around[name].append((before + after) / 2)
            told = ", ".join(f"{key} {value:.2f}" for key, value in figures[name][-1].items() if key.endswith("_tok_s"))
            limits = f"{before / 1e9:.1f} GB/s before, {after / 1e9:.1f} after"
            Console(stderr=True).print(f"round {number + 1} {name}: {told}; {limits}", soft_wrap=True, highlight=False)
            before = after
    return figures, around


def summary(figures: dict[str, list[Figures]], around: dict[str, list[float]], size: int) -> dict[str, float]:
    """Medians of ours, their ratios to medians of theirs, and the share of bandwidth that decoding uses."""
    result: dict[str, float] = {"rounds": len(figures["ours"])}
    result["bandwidth_gb_s"] = round(median([value for each in around.values() for value in each]) / 1e9, 1)
    shares = [run["decode_tok_s"] * size / at for run, at in zip(figures["ours"], around["ours"], strict=True)]
    result["bandwidth_share"] = round(median(shares), 3)
    keys = {"prefill": "prefill_tok_s", "decode": "decode_tok_s", "batch8": "batch_decode_tok_s"}
    for short, key in keys.items():
        typical = {name: median(run[key] for run in runs) for name, runs in figures.items()}
        result[f"{short}_tok_s"] = round(typical["ours"], 2)
        if "theirs" in typical:
            result[f"{short}_ratio"] = round(typical["ours"] / typical["theirs"], 3)
    return result


def cold(folder: str) -> dict[str, float]:
    """What fresh processes show. Peak memory includes the cache, which is told beside it."""
    memory = peak_memory(folder, prompt=PROMPT, steps=STEPS)
    return {
        "first_token_s": round(first_token_seconds(folder), 3),
        "peak_over_weights_bytes": memory.peak - memory.weights,
        "cache_bytes": memory.cache,
    }


def compare(arguments: argparse.Namespace) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = str(Path(temporary) / "model")
        write_random_model(Path(folder), PRESETS[SHAPES[arguments.shape]], arguments.bits)
        figures, around = in_turns(folder, arguments)
        return {**summary(figures, around, weight_bytes(gemwright.load(folder).weights)), **cold(folder)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=SHAPES, default="2b")
    parser.add_argument("--bits", type=int, choices=(4, 8), default=4)
    parser.add_argument("--baseline", help="script that measures llama.cpp")
    parser.add_argument("--python", default=sys.executable, help="interpreter for the baseline")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", metavar="FOLDER", help="ours, once, on this model")
    arguments = parser.parse_args()
    print(json.dumps(measure(arguments.only) if arguments.only else compare(arguments)))


if __name__ == "__main__":
    main()
